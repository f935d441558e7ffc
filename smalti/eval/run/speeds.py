"""How fast a run was, metric by metric, and what memory it took, as a short table."""

from collections.abc import Iterator

from smalti.eval.run.result import EvalResult, Row
from smalti.eval.run.tables import Block

NAMES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "lpips_alex": "LPIPS (alex)",
    "lpips_vgg": "LPIPS (vgg)",
    "lpips_squeeze": "LPIPS (squeeze)",
    "dists": "DISTS",
    "inception": "Inception features",
    "frc": "Fourier ring correlation",
    "fid": "FID of the features",
    "kid": "KID of the features",
    "precision": "precision, recall, density, coverage of the features",
}
"""What takes time in every row, in the order of the table."""


def speeds(result: EvalResult) -> Block | None:
    """Images per second and seconds in all: of reading, encoding and decoding, then of each metric over all rows.

    Decoding is that of the whole sequence. The last line is the peak memory of the process. None without timings.
    """
    rows = [row for row in result.rows if row.timing.get("images_per_second")]
    if not rows:
        return None
    body = [[name, f"{rate:.4g}", f"{seconds:.1f}"] for name, rate, seconds in _lines(rows)]
    peaks = {
        "peak memory": max(row.timing["peak_megabytes"] for row in rows),
        "peak memory of the GPU": max(row.timing.get("peak_device_megabytes", 0.0) for row in rows),
    }
    body += [[name, f"{peak:,.0f} MB", "-"] for name, peak in peaks.items() if peak]
    return "speed", ["", "images/s", "seconds"], body


def _lines(rows: list[Row]) -> Iterator[tuple[str, float, float]]:
    for subject in dict.fromkeys(row.subject for row in rows if row.kind != "baseline"):
        ours = [row for row in rows if row.subject == subject]
        for step, row in (("read", ours[0]), ("encode", ours[0]), ("decode", ours[-1])):
            if step in row.timing["images_per_second"]:
                label = f"{subject}: {step}" + (f" {row.budget} tokens" if step == "decode" and row.budget else "")
                yield label, row.timing["images_per_second"][step], row.timing["seconds"][step]
    for row in rows:
        if "code" in row.timing["images_per_second"]:
            yield row.subject, row.timing["images_per_second"]["code"], row.timing["seconds"]["code"]
    for metric, name in NAMES.items():
        having = [row.timing for row in rows if metric in row.timing["images_per_second"]]
        seconds = sum(timing["seconds"][metric] for timing in having)
        if seconds > 0:
            images = sum(timing["seconds"][metric] * timing["images_per_second"][metric] for timing in having)
            yield name, images / seconds, seconds
