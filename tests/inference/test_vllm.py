"""The constraint inside vLLM's own classes; the rest of the adapter is tested with a stand-in in `test_engine`.

vLLM wants a torch and a transformers of its own, so these tests run in an environment with the extra ``c2s[vllm]``
alone. They need no GPU: what drives the logits here is the network of transformers.
"""

from __future__ import annotations

import pytest
import torch

from c2s.inference import Genes, Labels, generate
from c2s.inference.batching import encode
from c2s.inference.constrain import Speller
from c2s.inference.sampling import Sampling
from c2s.inference.vllm_backend import request_parameters, save_spelled, whole_words

from .conftest import GENES, LABELS, make_prompts, tiny

logits_processor = pytest.importorskip(
    "vllm.v1.sample.logits_processor",
    reason="vLLM is not installed: the extra c2s[vllm], in an environment of its own",
)
PROMPTS = make_prompts(4)


@pytest.fixture
def processor():
    from c2s.inference.vllm_processor import ConstrainRequests

    return ConstrainRequests(None, torch.device("cpu"), False)


def parameters(model, constraint, prompt, folder, steps=12):
    """Return vLLM's parameters of a request, and the constraint's spelling."""
    from vllm import SamplingParams

    path, spelled = None, None
    if constraint is not None:
        _, spelled = Speller(model, constraint).behind(prompt, encode(model, [prompt])[0])
        path = folder / f"{len(list(folder.iterdir()))}.json"
        save_spelled(spelled, path)
    plain = request_parameters(
        Sampling(max_new_tokens=steps, temperature=0.0), steps, 7, int(model.tokenizer.eos_token_id),
        None if path is None else str(path),
    )  # fmt: skip
    return SamplingParams(**plain), spelled


def test_requests_of_one_batch_keep_to_their_own_constraints(processor, tmp_path):
    """Requests join late, leave and change places, as in vLLM's batch; the answers are those of `generate`."""
    model = tiny()
    end = int(model.tokenizer.eos_token_id)
    constraints = [Genes(GENES, n=4), None, Labels(LABELS), Genes(GENES[:5], n=3)]
    asked = [parameters(model, c, p, tmp_path) for c, p in zip(constraints, PROMPTS, strict=True)]
    prompts, outputs = encode(model, PROMPTS), [[] for _ in PROMPTS]
    joins = {0: [0, 1], 2: [2], 3: [3]}
    rows: list[int] = []  # which request stands in which row
    for step in range(40):
        removed = [row for row, request in enumerate(rows) if outputs[request][-1:] == [end]]
        removed += [row for row, r in enumerate(rows) if len(outputs[r]) == asked[r][0].max_tokens]
        kept = [row for row in range(len(rows)) if row not in removed]
        # vLLM fills a gap with the last row.
        moved, places = [], {row: row for row in kept}
        for gap in sorted(row for row in removed if row < len(kept)):
            last = max(row for row in places if places[row] >= len(kept))
            moved.append((last, gap, logits_processor.MoveDirectionality.UNIDIRECTIONAL))
            places[last] = gap
        rows = [rows[row] for row in sorted(places, key=places.get)]
        added = []
        for request in joins.get(step, []):
            added.append((len(rows), asked[request][0], prompts[request], outputs[request]))
            rows.append(request)
        processor.update_state(
            logits_processor.BatchUpdate(batch_size=len(rows), removed=removed, added=added, moved=moved)
        )
        if not rows and step > max(joins):
            break
        with torch.no_grad():
            ids = [torch.tensor([[*prompts[r], *outputs[r]]]) for r in rows]
            logits = torch.stack([model.model(i).logits[0, -1] for i in ids])
        for request, token in zip(rows, processor.apply(logits).argmax(-1).tolist(), strict=True):
            outputs[request].append(token)
    assert not rows
    for constraint, prompt, (_, spelled), output in zip(constraints, PROMPTS, asked, outputs, strict=True):
        new = whole_words(spelled, [token for token in output if token != end])
        text = model.tokenizer.decode(new, skip_special_tokens=True).strip()
        limit = {} if constraint is not None else {"max_new_tokens": 12}
        assert text == generate(model, [prompt], constraint=constraint, **limit)[0].strip()
    genes = model.tokenizer.decode(outputs[0], skip_special_tokens=True).split()
    assert len(genes) == len(set(genes)) == 4 and set(genes) <= set(GENES)


def test_the_parameters_are_ones_that_vllm_takes(tmp_path):
    made, _ = parameters(tiny(), Labels(LABELS), PROMPTS[0], tmp_path)
    assert made.temperature == 0 and made.max_tokens == 12
    assert made.extra_args == {"c2s_constraint": str(tmp_path / "0.json")}
