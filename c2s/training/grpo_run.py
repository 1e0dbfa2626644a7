"""One GRPO run: TRL's settings, the policy and its reference, and the trainer from its first step to its last."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c2s.errors import TrainingError
from c2s.files import atomic_output
from c2s.inference.batching import end_of_text, padding_token, unwrapped
from c2s.models.loading import LanguageModel, quiet_transformers, write_model
from c2s.training.batches import plan_visits
from c2s.training.grpo_config import GRPOConfig
from c2s.training.record import TrainingRecord
from c2s.training.resume import Start, out_of_patience
from c2s.training.rewards import WeightedReward
from c2s.training.sft import common_arguments, one_device, processes
from c2s.training.watch import out_of_memory

if TYPE_CHECKING:
    import pyarrow as pa

    from c2s.training.grpo_trainer import PolicyTrainer

_REFERENCE = "reference"


@contextmanager
def as_policy(model: LanguageModel) -> Iterator[None]:
    """Take from the network, for a while, what would disturb the objective, and put it back.

    Dropout would make the probabilities of one and the same answer differ from pass to pass; the checkpoint's own
    generation settings (a repetition penalty, a top-k) would draw from another policy than the one that learns.
    """
    import torch
    from transformers import GenerationConfig

    network: Any = unwrapped(model.model)
    own = network.generation_config
    network.generation_config = GenerationConfig(
        eos_token_id=end_of_text(model), pad_token_id=padding_token(model)
    )
    quiet: list[tuple[Any, str, float]] = []
    for module in network.modules():
        for name in ("p",) if isinstance(module, torch.nn.Dropout) else ("attention_dropout",):
            rate = getattr(module, name, None)
            if isinstance(rate, float) and rate:
                quiet.append((module, name, rate))
                setattr(module, name, 0.0)
    try:
        yield
    finally:
        network.generation_config = own
        for module, name, rate in quiet:
            setattr(module, name, rate)


def arguments(config: GRPOConfig, rewards: Sequence[WeightedReward], place: Path, steps: int, *, cpu: bool) -> Any:
    """Return TRL's own configuration of a run."""
    import trl

    per_process = config.answers_per_step // processes()
    batch = config.answers_per_batch or per_process
    vllm: dict[str, Any] = {}
    if config.vllm is not None:
        vllm = {"use_vllm": True, "vllm_mode": config.vllm, "vllm_gpu_memory_utilization": config.vllm_memory}
        vllm |= {"vllm_server_base_url": config.vllm_server} if config.vllm_server else {}
    made = trl.GRPOConfig(
        **common_arguments(config, place, steps, cpu=cpu),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=per_process // batch,
        num_generations=config.group_size,
        reward_weights=[weighted.weight for weighted in rewards],
        num_iterations=config.iterations,
        max_completion_length=config.max_answer_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high,
        beta=config.beta,
        # On by default, it weighs the divergence by the probability ratio, which the paper's objective does not.
        use_bias_correction_kl=False,
        loss_type=config.loss,
        scale_rewards=config.scale_rewards,
        shuffle_dataset=False,  # the order of the prompts is planned
        save_steps=_whole_cycles(config.save_steps, config),
        **vllm,
    )
    return one_device(made)


def _whole_cycles(steps: int, config: GRPOConfig) -> int:
    """Round up to where new answers are drawn: a checkpoint there needs no answers of an older policy."""
    return math.ceil(steps / config.iterations) * config.iterations


def make_trainer(
    model: LanguageModel,
    examples: pa.Table,
    rewards: Sequence[WeightedReward],
    config: GRPOConfig,
    settled: Any,
    start: Start,
    record: TrainingRecord,
    advance: Any,
    evaluation: Callable[[], Mapping[str, float]] | None,
    rank: int,
) -> PolicyTrainer:
    """Return the trainer of a run, with its prompts in the planned order and its reference."""
    from datasets import Dataset

    from c2s.training.grpo_trainer import PolicyTrainer

    n, steps, place = examples.num_rows, int(settled.max_steps), Path(settled.output_dir)
    visits = plan_visits(
        np.ones(n, dtype=np.int64),
        steps=math.ceil(steps / config.iterations),
        per_step=config.prompts_per_step,
        window=0,
        seed=config.seed,
    )

    def prompts(rows: Mapping[str, list[int]]) -> dict[str, list[Any]]:
        return {"prompt": examples["prompt"].take(rows["example"]).to_pylist(), "example": rows["example"]}

    dataset = Dataset.from_dict({"example": visits.examples})
    dataset.set_transform(prompts)
    with _reference(model, place, config, rank):
        trainer = PolicyTrainer(
            model=model.model,
            args=settled,
            train_dataset=dataset,
            processing_class=model.tokenizer,
            language_model=model,
            examples=examples,
            rewards=rewards,
            config=config,
            record=record,
            evaluate_with=evaluation,
            eval_every=_whole_cycles(config.eval_every or max(1, steps // 10), config),
            best=start.best,
            advance=advance,
        )
    if "ref" in getattr(trainer.model, "peft_config", {}):
        # TRL's copy of the adapter as it begins; switched off, the adapter says the same, to the last bit.
        trainer.model.delete_adapter("ref")
    return trainer


@contextmanager
def _reference(model: LanguageModel, place: Path, config: GRPOConfig, rank: int) -> Iterator[None]:
    """Let TRL find the frozen first model: it reads it from the folder that the network says it came from."""
    if not config.beta or config.lora_rank is not None:
        yield
        return
    folder = place / _REFERENCE
    if rank == 0 and not folder.exists():
        with atomic_output(folder) as temporary:
            write_model(model, temporary)
    if processes() > 1:
        from accelerate.state import PartialState

        PartialState().wait_for_everyone()
    own = model.model.config._name_or_path
    model.model.config._name_or_path = str(folder)
    try:
        with quiet_transformers():
            yield
    finally:
        model.model.config._name_or_path = own


def run_policy(trainer: PolicyTrainer, place: Path, start: Start, config: GRPOConfig) -> None:
    """Train to the end, put the best weights back, and leave the model as plain as it came."""
    from transformers.utils import logging

    network = trainer.model
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    ended = [line["warning"]["guard"] for line in trainer.record.lines if line.get("warning", {}).get("stopped")]
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)  # of names that TRL still uses
            if start.checkpoint is not None and (
                ended or out_of_patience(trainer.record, start.best, config.patience)
            ):
                trainer._load_from_checkpoint(str(start.checkpoint))
                trainer.state.global_step = start.step
                trainer.stopped_by = ended[0] if ended else None
            else:
                trainer.train(resume_from_checkpoint=str(start.checkpoint) if start.checkpoint else None)
            if trainer.best is not None and trainer.best[1] != trainer.state.global_step:
                trainer._load_from_checkpoint(str(place / f"checkpoint-{trainer.best[1]}"))
    except RuntimeError as error:
        if "probability tensor contains" in str(error):
            raise TrainingError(
                f"after step {trainer.state.global_step} the model's probabilities are no numbers.",
                fix="lower learning_rate or max_grad_norm, or add warmup_steps; then start again.",
            ) from error
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"memory ran out in step {trainer.state.global_step + 1}, with "
            f"{trainer.args.per_device_train_batch_size} answers in a forward pass.",
            fix="lower answers_per_batch, max_answer_tokens or group_size, or set activation_checkpointing; then "
            f"start again, without the folder {place}.",
        ) from error
    finally:
        logging.set_verbosity(level)
        network = trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        # TRL puts a forward pass of its own on the instance; the class's is ours again.
        unwrapped(network).__dict__.pop("forward", None)
        network.eval()
