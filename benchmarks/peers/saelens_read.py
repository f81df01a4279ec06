"""A dictionary folder read by SAELens: codes and reconstruction of some rows, as safetensors."""

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")


def main() -> None:
    folder, source, target = sys.argv[1:4]
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder, device="cpu")
    sae.eval()
    with torch.no_grad():
        x = load_file(source)["x"].float()
        code = sae.encode(x)
        code = code.to_dense() if code.is_sparse else code
        found = {"code": code.contiguous(), "reconstruction": sae(x).contiguous()}
    # The forward pass, not decode: a skip-transcoder adds its linear map there.
    save_file(found, Path(target), {"kind": type(sae).__name__})


if __name__ == "__main__":
    main()
