"""Models outside of Python: encoder, log-density and sampler as ONNX or ``torch.export`` graphs."""

from __future__ import annotations

from bruno.lazy import lazy_exports

__all__ = ["ExportedModel", "export_model"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"ExportedModel": "bruno.export.writer", "export_model": "bruno.export.writer"},
)
