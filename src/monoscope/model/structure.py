"""Where the decoder blocks of a Hugging Face model are: found by structure, not by a table of names."""

from typing import Any

from torch import nn

from monoscope.core.errors import SiteNotFound

# Where the structure misleads: several lists of the right length, or sub-layers counted twice.
_EXCEPTIONS = {
    "blenderbot": "model.decoder.layers",
    "blt": "model.global_transformer.layers",
    "longcat_flash": "model.layers",
    "modernbert-decoder": "model.layers",
}


def find_blocks(module: nn.Module, layers_path: str | None = None) -> list[nn.Module]:
    """The decoder blocks, in order.

    They are the only list of modules, inside the decoder, that is as long as the configuration says the model is deep.

    Raises
        SiteNotFound  no list, or several, fit; or `layers_path` is not a list of modules.
    """
    config: Any = module.config
    path = layers_path or _EXCEPTIONS.get(config.model_type)
    if path is not None:
        return _at(module, path)
    depth = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    for start in _starts(module):
        fitting = _lists(start, depth)
        if len(fitting) == 1:
            return list(next(iter(fitting.values())))
    names = _names(module)
    raise SiteNotFound(
        f"The decoder blocks of {type(module).__name__} (depth {depth}) are not obvious; give --layers-path, "
        f"one of: {', '.join(names) or 'none found'}."
    )


def find_mlp(block: nn.Module, name: str) -> nn.Module:
    """The part of a decoder block that is its MLP: the only direct child whose name says so.

    Raises
        SiteNotFound  none or several do.
    """
    marks = ("mlp", "ffn", "feed_forward", "feedforward", "block_sparse_moe")
    found = [
        part
        for child, part in block.named_children()
        if any(mark in child.lower() for mark in marks)
        and "norm" not in child.lower()
        and "norm" not in type(part).__name__.lower()
    ]
    if len(found) != 1:
        children = ", ".join(child for child, _ in block.named_children())
        raise SiteNotFound(
            f"{name} has {len(found) or 'no'} MLPs in a block (its parts: {children}); use resid_post.N."
        )
    return found[0]


def _starts(module: nn.Module) -> list[nn.Module]:
    """Where to look: the decoder if the model knows it, then all of the model."""
    get_decoder = getattr(module, "get_decoder", None)
    decoder = get_decoder() if get_decoder is not None else None
    return [decoder, module] if isinstance(decoder, nn.Module) and decoder is not module else [module]


def _lists(start: nn.Module, depth: int | None) -> dict[str, nn.ModuleList]:
    fitting = {
        name: part for name, part in start.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth
    }
    # A list inside a member of another list is part of a block.
    return {name: part for name, part in fitting.items() if not any(name.startswith(f"{other}.") for other in fitting)}


def _at(module: nn.Module, path: str) -> list[nn.Module]:
    try:
        found = module.get_submodule(path)
    except AttributeError as error:
        raise SiteNotFound(
            f"{type(module).__name__} has no part {path!r}; lists of modules are: {', '.join(_names(module))}."
        ) from error
    if not isinstance(found, nn.ModuleList):
        raise SiteNotFound(f"{path!r} of {type(module).__name__} is a {type(found).__name__}, not a list of blocks.")
    return list(found)


def _names(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList)][:12]
