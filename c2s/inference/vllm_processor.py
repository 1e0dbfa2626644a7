"""What vLLM loads into its own process to keep requests to their constraints; needs vLLM."""

from __future__ import annotations

from typing import Any

from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from c2s.inference.vllm_backend import request_processor


class ConstrainRequests(AdapterLogitsProcessor):  # type: ignore[misc]
    """Hands each request its own constraint."""

    def is_argmax_invariant(self) -> bool:
        """Say that a constraint may change the most probable token."""
        return False

    def new_req_logits_processor(self, params: Any) -> Any:
        """Return the processor of one request, or None where it has no constraint."""
        return request_processor(params.extra_args)
