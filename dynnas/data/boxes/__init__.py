"""Pictures with boxes around things: Pascal VOC and COCO."""
