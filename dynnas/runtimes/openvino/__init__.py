"""OpenVINO as a runtime."""
