"""LoRA: the roles of a run on one base model in memory, and plain PEFT folders on disk.

A role is an adapter and, where it scores, a head of its own. The base is frozen and shared, so without an adapter it is the base, bit
for bit. Source: Hu et al. 2021, arXiv:2106.09685; the folders are those of the peft library.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from tutelage.base.errors import ArtifactError, ConfigError, did_you_mean
from tutelage.base.files import atomic_write_text
from tutelage.base.log import quiet
from tutelage.models.folders import fit_vocabulary, load_pretrained, require_complete, require_policy, resolve_model
from tutelage.models.heads import ScoredModel, draw_head, find_head, require_token_head
from tutelage.models.memory import compute_in_bf16, keep_differentiable, quantized, recompute_activations
from tutelage.models.peft_folders import OURS, WEIGHTS, adapter_base, check_patterns, is_adapter, read_adapter_config, weights_digest
from tutelage.models.policy import require_causal

if TYPE_CHECKING:
    from peft import LoraConfig  # imported where it is used: it loads bitsandbytes, which takes a second

_KEPT = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora")
"""What is taken from an adapter_config.json. Other settings leave tensors that no role has, which `load` refuses."""

_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to start an adapter that leave the base as it is; PiSSA and its like take from the base what they put into the adapter."""

_FUSED_OUTPUT = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Architectures whose kernels read the weight of `out_proj` past the layer, where an adapter would not be seen."""


class Roles:
    """One frozen base model and the adapters of every role on it. Views answer in one role each; entering a view switches to its role."""

    def __init__(self, model: PreTrainedModel, base: Path) -> None:
        """model: a causal LM, a scored model's transformer with its head, or a bare transformer. base: the folder it was opened from."""
        self.model, self.base = model.requires_grad_(False).eval(), base
        self.trunk: PreTrainedModel = model.base_model              # type: ignore[assignment]
        self.prefix = "" if self.trunk is model and not model.base_model_prefix else f"{model.base_model_prefix}."
        self.linear_layers = linear_layers(self.trunk)              # now: adapters bring linear layers of their own
        self.configs: dict[str, LoraConfig] = {}
        self.trained: set[str] = set()
        self._active: str | None = None
        self._bf16 = False
        self._digest = ""

    @classmethod
    def open(cls, path: str | Path, *, auto_class: Any = AutoModelForCausalLM, tokenizer: PreTrainedTokenizerBase,
             device: str | torch.device = "cpu", precision: str = "float32", checkpointing: bool = False, bits: str = "full") -> Roles:
        """The base of a model folder: the folder itself, or the one its adapter was trained on. No role yet.

        auto_class: AutoModelForCausalLM for policies; AutoModel for the transformer alone. precision: bf16 stores the base and computes
        in bfloat16; adapters and heads stay float32. checkpointing: compute activations twice. bits: full, 8bit or 4bit.
        Raises: ArtifactError when it cannot be opened, MissingExtraError when fewer bits need what is not installed.
        """
        base = adapter_base(resolve_model(path), verify=True)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model, missing = load_pretrained(auto_class, base, dtype=dtype, **quantized(bits))
        require_complete(base, missing)
        if bits != "full":
            keep_differentiable(model)
        if auto_class is AutoModelForCausalLM:
            require_causal(model, base)
        fit_vocabulary(model, tokenizer, base)
        roles = cls(model if bits != "full" else model.to(device), base)          # type: ignore[arg-type]  # as in open_policy
        roles._bf16 = precision == "bf16"
        if checkpointing:
            recompute_activations(model, roles._as_now)
        return roles

    def reads(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether the base has an embedding for every token."""
        rows: Tensor = self.trunk.get_input_embeddings().weight     # type: ignore[assignment]
        return max(tokenizer.get_vocab().values()) < len(rows)

    # -- roles --------------------------------------------------------------------------------------------------------

    def begin(self, role: str, start: Path, *, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
        """A role to train: it goes on from `start` where that is an adapter, else its adapter is new and changes nothing yet.

        Raises: ConfigError when the adapter to go on from has another rank, or when targets name no linear layer.
        """
        if not is_adapter(start):
            return self.add(role, rank=rank, alpha=alpha, targets=targets, seed=seed)
        self.load(role, start, trained=True)
        self.require_rank(role, rank, start)

    def add(self, role: str, *, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
        """A new adapter, to be trained: B = 0, so the role starts as the base. Empty targets: every linear layer of the transformer."""
        known = self.linear_layers
        for name in targets:
            if name not in known:
                raise ConfigError(f"lora.targets: no linear layer is called {name!r} in {self.base}{did_you_mean(name, known)}",
                                  hint=f"choose among {', '.join(known)}; an empty list takes all")
        self._inject(role, {"r": rank, "lora_alpha": alpha, "target_modules": list(targets or known)}, seed=seed)
        self._set_trained(role, True)

    def load(self, role: str, folder: Path, *, trained: bool = False) -> None:
        """A role from an adapter folder, ours or anyone's.

        Raises: ArtifactError when the folder is damaged, does not fit the base or changes more of it than roles can keep apart.
        """
        if rest := self._load(role, folder, trained=trained):
            raise ArtifactError(f"{folder} holds {next(iter(rest))}, which is more than plain LoRA on {self.base}",
                                hint="merge it first: tutelage export")

    def _load(self, role: str, folder: Path, *, trained: bool) -> dict[str, Tensor]:
        """As load. Returns the tensors that are not LoRA's on the transformer: a head's."""
        raw, tensors = read_adapter_config(folder), _read_tensors(folder)
        if (origin := raw.get("init_lora_weights", True)) not in _PLAIN_STARTS:
            raise ArtifactError(f"{folder} changes the base it stands on (init_lora_weights={origin}), which roles share",
                                hint="merge it first: tutelage export")
        check_patterns(folder, raw, (name for name, _ in self.trunk.named_modules()))
        start = f"base_model.model.{self.prefix}"
        lora = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start) and ".lora_" in k}
        try:
            self._inject(role, {k: raw[k] for k in _KEPT if raw.get(k) is not None}, state_dict=lora)
        except (TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            raise ArtifactError(f"{folder} does not fit {self.base}: {' '.join(str(error).split())[:160]}",
                                hint="use the base it was trained on") from error
        unused = dict(lora)
        for name, layer in self._layers(role):
            for side, weight in (("lora_A", layer.lora_A[role].weight), ("lora_B", layer.lora_B[role].weight)):
                saved = unused.pop(f"{name}.{side}.weight", None)
                if saved is None or saved.shape != weight.shape:
                    raise ArtifactError(f"{folder} does not fit {self.base}: {name}.{side} is "
                                        f"{'missing' if saved is None else list(saved.shape)}",
                                        hint="use the base it was trained on")
                weight.data.copy_(saved)
        self._set_trained(role, trained)
        return {k: v for k, v in tensors.items() if k.removeprefix(start) not in lora or k.removeprefix(start) in unused}

    def require_rank(self, role: str, rank: int, start: Path) -> None:
        """Raises: ConfigError when the adapter that training goes on from has another rank than was asked for."""
        found = self.configs[role].r
        if found != rank:
            raise ConfigError(f"{start} is an adapter of rank {found}, and lora.rank={rank}",
                              hint=f"lora.rank={found} goes on with it; tutelage export merges it into its base first")

    def parameters(self, role: str) -> list[nn.Parameter]:
        """The role's adapter weights; a head is the view's own."""
        return [side[role].weight for _, layer in self._layers(role) for side in (layer.lora_A, layer.lora_B)]

    # -- views --------------------------------------------------------------------------------------------------------

    def causal(self, role: str | None) -> PreTrainedModel:
        """The causal LM in one role; None is the base itself. All views share the base's memory."""
        view = self._view(self.model, role)
        setattr(view, self.model.base_model_prefix, self._view(self.trunk, role))
        view.roles, view.role = self, role                          # type: ignore[assignment]  # how save_policy knows it
        return view

    def scored(self, role: str | None, *, seed: int = 0) -> RoleScore:
        """The transformer in one role with a head of its own, drawn from the seed as in ScoredModel.from_policy."""
        shell = _scoring_shell(self.trunk, self.base)
        setattr(shell, shell.base_model_prefix, self._view(self.trunk, role))
        name, meta = find_head(shell)
        head = nn.Linear(meta.in_features, 1, bias=meta.bias is not None)
        draw_head(head, seed)
        setattr(shell, name, head.to(self.trunk.device))
        if self._bf16:
            compute_in_bf16(shell)
        return RoleScore(shell.train(self.trunk.training), self, role)

    def load_scored(self, role: str, folder: Path, *, trained: bool = False) -> RoleScore:
        """A saved role that scores, head and score_shift included. Raises: ArtifactError as load, and when there is no head."""
        rest = self._load(role, folder, trained=trained)
        model = self.scored(role)
        name, head = find_head(model.model)
        saved = {k.removeprefix(f"base_model.model.{name}."): v for k, v in rest.items()}
        try:
            head.load_state_dict(saved)
        except RuntimeError as error:
            raise ArtifactError(f"{folder} has no head called {name!r} that fits (found {', '.join(rest) or 'none'})",
                                hint="an adapter of a reward model holds its head; train one with: tutelage reward") from error
        model.score_shift.fill_(read_adapter_config(folder)["score_shift"])
        head.requires_grad_(trained)
        return model

    def whole_scored(self) -> RoleScore:
        """The scored model this was opened as, head and score_shift included, without an adapter."""
        model = self.scored(None)
        model.head.load_state_dict(find_head(self.model)[1].state_dict())
        model.score_shift.fill_(getattr(self.model.config, "score_shift", 0.0))
        model.head.requires_grad_(False)
        return model

    def _view(self, module: PreTrainedModel, role: str | None) -> PreTrainedModel:
        """The same module and weights under another name, that switches to the role when it is called."""
        view = copy.copy(module)
        for name, value in list(vars(module).items()):
            if isinstance(value, dict):                             # submodules, parameters, hooks: what they hold stays shared
                vars(view)[name] = copy.copy(value)
        view.register_forward_pre_hook(lambda *_: self.enter(role))
        if self._bf16:
            compute_in_bf16(view)
        return view

    def enter(self, role: str | None) -> None:
        """Let the base answer in this role from now on. Views do this themselves."""
        if role == self._active:
            return
        for _, layer in self._lora_layers():
            # PEFT's own set_adapter also turns gradients on and off, which another role's pending backward pass would feel.
            layer._active_adapter, layer._disable_adapters = [role] if role else [], role is None
        self._active = role

    def _as_now(self) -> AbstractContextManager[None]:
        """Activations computed again must be those of the role they had; by the backward pass another one may be active."""
        role = self._active

        @contextmanager
        def again() -> Iterator[None]:
            other = self._active
            self.enter(role)
            try:
                yield
            finally:
                self.enter(other)

        return again()

    # -- disk ---------------------------------------------------------------------------------------------------------

    def save(self, role: str, folder: str | Path, tokenizer: PreTrainedTokenizerBase, *, head: tuple[str, nn.Linear] | None = None,
             score_shift: float = 0.0) -> None:
        """Write a plain PEFT folder, tokenizer beside it. The head is among its tensors; what PEFT has no place for is in tutelage.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"base_model.model.{self.prefix}{name}.{side}.weight": getattr(layer, side)[role].weight
                   for name, layer in self._layers(role) for side in ("lora_A", "lora_B")}
        config = copy.deepcopy(self.configs[role])
        config.task_type = "SEQ_CLS" if head else "CAUSAL_LM"
        if head:
            tensors |= {f"base_model.model.{head[0]}.{name}": value for name, value in head[1].state_dict().items()}
            config.modules_to_save = [head[0]]
        config.base_model_name_or_path, config.inference_mode = str(self.base.resolve()), True
        config.target_modules = sorted(config.target_modules or ())          # a set's order changes from process to process
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
        with quiet():
            config.save_pretrained(str(folder))
            tokenizer.save_pretrained(folder)
        self._digest = self._digest or weights_digest(self.base)
        atomic_write_text(folder / OURS, json.dumps({"base_sha256": self._digest, "score_shift": score_shift}) + "\n")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _inject(self, role: str, settings: dict[str, Any], *, seed: int = 0, state_dict: dict[str, Tensor] | None = None) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(**settings)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")                         # about fan_in_fan_out, which PEFT then sets as it must be
            torch.manual_seed(seed)
            inject_adapter_in_model(config, self.trunk, role, state_dict=state_dict)
        self.configs[role] = config
        for parameter in self.parameters(role):
            parameter.data = parameter.data.float()                 # adapters are float32 on a base of any precision
        self._active = role                                         # PEFT has switched to it
        self._set_trained(role, False)

    def _set_trained(self, role: str, trained: bool) -> None:
        """PEFT trains the adapter it injected last; who learns is decided here."""
        self.trained = self.trained | {role} if trained else self.trained - {role}
        self.trunk.requires_grad_(False)
        for name in self.trained:
            for parameter in self.parameters(name):
                parameter.requires_grad_(True)

    def _layers(self, role: str) -> list[tuple[str, Any]]:
        return [(name, layer) for name, layer in self._lora_layers() if role in layer.lora_A]

    def _lora_layers(self) -> Iterator[tuple[str, Any]]:
        from peft.tuners.lora import LoraLayer

        return ((name, module) for name, module in self.trunk.named_modules() if isinstance(module, LoraLayer))


class RoleScore(ScoredModel):
    """A scored model whose transformer is a view of the base in one role; the head is its own."""

    def __init__(self, model: PreTrainedModel, roles: Roles, role: str | None) -> None:
        super().__init__(model)
        self.score_shift = self.score_shift.to(roles.trunk.device)
        self.roles, self.role = roles, role
        require_token_head(self, roles.base)

    def save(self, folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the adapter with its head as a plain PEFT folder."""
        assert self.role is not None
        self.roles.save(self.role, folder, tokenizer, head=find_head(self.model), score_shift=float(self.score_shift))

    def requires_grad_(self, requires_grad: bool = True) -> RoleScore:
        """Of what is the role's own. The default would freeze or thaw every role of the base."""
        for parameter in self.own_parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def own_parameters(self) -> list[nn.Parameter]:
        """The adapter's and the head's."""
        return [*(self.roles.parameters(self.role) if self.role else []), *self.head.parameters()]


def open_adapted_policy(start: Path, *, tokenizer: PreTrainedTokenizerBase, rank: int, alpha: float, targets: Sequence[str],
                        seed: int = 0, **options: Any) -> PreTrainedModel:
    """A policy whose adapter alone is trained, from a model folder or an adapter. options: as Roles.open."""
    require_policy(start)
    roles = Roles.open(start, tokenizer=tokenizer, **options)
    roles.begin("policy", start, rank=rank, alpha=alpha, targets=targets, seed=seed)
    return roles.causal("policy")


def open_adapted_reward(start: Path, *, tokenizer: PreTrainedTokenizerBase, rank: int, alpha: float, targets: Sequence[str],
                        seed: int = 0, **options: Any) -> RoleScore:
    """A reward model whose adapter and head alone are trained. It goes on from a reward adapter, head included, or from a policy."""
    roles = Roles.open(start, auto_class=AutoModel, tokenizer=tokenizer, **options)
    if is_adapter(start) and read_adapter_config(start).get("task_type") == "SEQ_CLS":
        model = roles.load_scored("reward", start, trained=True)
        roles.require_rank("reward", rank, start)
        return model
    roles.begin("reward", start, rank=rank, alpha=alpha, targets=targets, seed=seed)
    return roles.scored("reward", seed=seed)


def linear_layers(trunk: PreTrainedModel) -> list[str]:
    """Last names of a transformer's linear layers, whatever its architecture calls them; its embeddings and heads are not among them."""
    names = {name.rsplit(".", 1)[-1] for name, module in trunk.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
    return sorted(names - ({"out_proj"} if trunk.config.model_type in _FUSED_OUTPUT else set()))


def _scoring_shell(trunk: PreTrainedModel, base: Path) -> PreTrainedModel:
    """The sequence-classification model of the trunk's architecture, empty. Raises: ArtifactError where there is none that fits."""
    config = copy.deepcopy(trunk.config)
    config.num_labels = 1
    try:
        with torch.device("meta"), quiet():
            shell = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ArtifactError(f"{base}: no reward model can be made of a {config.model_type}: {str(error).splitlines()[0][:120]}",
                            hint="choose a base whose architecture transformers can classify sequences with") from error
    if type(shell.base_model) is not type(trunk):
        raise ArtifactError(f"{base}: a {type(shell.base_model).__name__} cannot stand on a {type(trunk).__name__}",
                            hint="train without lora: lora.rank=0")
    return shell


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder / WEIGHTS} cannot be read: {str(error).splitlines()[0]}",
                            hint="copy the file again, or use an earlier checkpoint") from error
