"""Vector quantization with one learned codebook (arXiv 1711.00937), optionally of length-1 codes (arXiv 2110.04627).

Shape suffixes: any leading dimensions, C code width, N vectors, V codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.quantizers.base import Quantized, Quantizer, nearest_code

_SMOOTHING = 1e-5  # Laplace smoothing of the moving counts: no code is divided by zero


class VectorQuantizer(Quantizer):
    """The nearest code of every vector, decided in float32; both are brought to length 1 first if `normalize`.

    Codes learn by the gradient of the codebook loss, or follow the moving averages of their vectors (1711.00937,
    appendix A.1): with n_i vectors z_ij at code i, N_i <- d N_i + (1 - d) n_i, m_i <- d m_i + (1 - d) sum_j z_ij,
    e_i = m_i / N_i, at every call in training mode, over the batch of all processes.

    >>> vq = VectorQuantizer(4, 2)
    >>> vq.nearest(vq.codes_of(torch.tensor([[3, 0]]))).tolist()
    [[3, 0]]
    """

    recent: Tensor
    """float32 [remembered]: the ids chosen last in training, the newest at the end; saved unless `remembered` is 0."""
    counts: Tensor
    """float32 [V]: N above, where codes follow moving averages."""
    sums: Tensor
    """float32 [V, C]: m above."""

    def __init__(
        self, vocab: int, width: int, *, normalize: bool = True, remembered: int = 65536, decay: float = 0.0
    ) -> None:
        """`remembered`: how many of the ids chosen last in training are kept; 0 = none.

        `decay`: d of the moving averages; 0 = codes learn by gradient.
        """
        super().__init__()
        self.vocab, self.width, self.normalize, self.decay = vocab, width, normalize, decay
        self.codebook = nn.Parameter(torch.empty(vocab, width), requires_grad=not decay)
        nn.init.uniform_(self.codebook, -1 / vocab, 1 / vocab)
        if normalize:
            with torch.no_grad():  # to length 1, in place: building an empty model then computes nothing
                self.codebook.mul_(1e9).renorm_(2, 0, 1)
        self.register_buffer("recent", torch.zeros(remembered), persistent=remembered > 0)
        if decay:
            self.register_buffer("counts", torch.ones(vocab))
            self.register_buffer("sums", torch.empty(vocab, width))
            self.sums.copy_(self.codebook.detach())

    def unit(self, z_C: Tensor) -> Tensor:
        """float32 [..., C]: vectors or codes as they are compared."""
        return F.normalize(z_C.float(), dim=-1) if self.normalize else z_C.float()

    def nearest(self, z_C: Tensor) -> Tensor:
        """int64 [...]: the nearest code of every vector."""
        return nearest_code(self.unit(z_C), self.unit(self.codebook))

    def codes_of(self, ids: Tensor) -> Tensor:
        """float32 [..., C]: codes of ids."""
        return self.unit(F.embedding(ids, self.codebook))

    def mean(self) -> Tensor:
        """float32 [C]: mean of the codes, to stand for an unknown one."""
        return self.unit(self.codebook).mean(0)

    def forward(self, z_C: Tensor) -> Quantized:
        """Quantizes with gradients; both losses compare what is compared: z and e after `unit` (eq. 3).

        Codebook loss: mean of (e - sg[z])^2. Commitment: mean of (z - sg[e])^2.
        """
        with torch.autocast(z_C.device.type, enabled=False):
            z = self.unit(z_C)
            ids = self.nearest(z.detach())
            e, zero = self.codes_of(ids), z.new_zeros(())
            if self.decay and self.training:
                self._follow(z.detach(), ids)
            codebook = zero if self.decay else F.mse_loss(e, z.detach())
            return Quantized(z + (e - z).detach(), ids, codebook, F.mse_loss(z, e.detach()), zero)

    @torch.no_grad()
    def _follow(self, z_C: Tensor, ids: Tensor) -> None:
        """Takes vectors into the moving averages, and the codes with them."""
        z_NC, ids_N = z_C.flatten(0, -2), ids.flatten()
        counts = torch.bincount(ids_N, minlength=self.vocab).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, ids_N, z_NC)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.counts.sum()
        smooth_V = (self.counts + _SMOOTHING) / (total + self.vocab * _SMOOTHING) * total
        self.codebook.copy_(self.unit(self.sums / smooth_V[:, None]))

    @torch.no_grad()
    def remember(self, ids: Tensor) -> Tensor:
        """Appends to the ids chosen last; returns the share of all codes that are among them."""
        self.recent.copy_(torch.cat([self.recent, ids.flatten().to(self.recent)])[-len(self.recent) :])
        return (torch.bincount(self.recent.long(), minlength=self.vocab) > 0).float().mean()

    @torch.no_grad()
    def revive(self, z_C: Tensor, rng: torch.Generator) -> int:
        """Replaces every code that is not among the ids chosen last by a random vector of a batch; returns how many.

        Call it when `remembered` ids have been seen. Errors: ValueError for a quantizer that remembers none.
        """
        if not len(self.recent):
            raise ValueError("this quantizer remembers no ids, so that no code is known to be dead: set remembered")
        dead_V = torch.bincount(self.recent.long(), minlength=self.vocab) == 0
        z_NC = self.unit(z_C.detach()).flatten(0, -2)
        pick_V = torch.randint(len(z_NC), (self.vocab,), generator=rng, device=rng.device).to(z_NC.device)
        codes_VC = torch.where(dead_V[:, None], z_NC[pick_V], self.codebook)
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(codes_VC, 0)
            torch.distributed.broadcast(dead_V, 0)
        self.codebook.copy_(codes_VC)
        if self.decay:
            self.counts.masked_fill_(dead_V, 1.0)
            self.sums[dead_V] = codes_VC[dead_V]
        return int(dead_V.sum())
