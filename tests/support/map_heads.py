"""Tasks whose heads read maps, and what a space file says of such heads."""

from dynnas.tasks import Detection, Segmentation

HEADS_OF = {
    "segmentation": (
        Segmentation(5),
        "{kind: [lraspp, pyramid, pointrend], neck: [8, 12], tower: [0, 2], finest: [4, 8], points: [9, 30]}",
    ),
    "detection": (Detection(5), "{neck: [8, 12], tower: [1, 2], finest: [4, 8]}"),
}
