"""What the pages say of speed, from results/benchmarks/ alone; scripts/page.py puts it there."""

from benchmark_results import kept
from results_tables import markdown, sentences

from worldjepa.profiling import profile_table

PEER = "stable-worldmodel"
FORMS = {"plain": "plain cosines and sines", "complex": "Algorithm 1, complex", "ours": "ours"}


def reading() -> str:
    """Windows of data, by our reader and the peer's."""
    found, machine = kept("data")
    rates = {name: f"{rate:,.0f}" for name, rate in found["windows_per_second"]["64"].items()}
    large = found["large"]
    return sentences(f"""
        Windows of 4 frames at 64 px from the page cache, one process (`scripts/benchmark_data.py`, medians of
        {found["rounds"]} rounds, {machine}): {rates["ours, shards"]} a second from shards,
        {rates["ours, the file that theirs wrote"]} from the file that {PEER} 0.1.1 wrote; its own HDF5 reader
        gives {rates["theirs, HDF5"]} (two columns; {rates["theirs, HDF5, every column (its default)"]} with
        all, its default), its batched Lance reader {rates["theirs, Lance, batched"]}.
        {large["gigabytes"]:g} GB of shards open in {large["opened"]:.1f} s and are trained on within
        {large["resident"]:.1f} GB of resident memory.
    """)


def collecting() -> str:
    """Frames by our command, bare renderers and the peer's."""
    found, machine = kept("collect")
    rates = found["frames_per_second"]
    fast, full = rates["worldjepa, fast"], rates["worldjepa, full"]
    rounds = "one round" if found["rounds"] == 1 else f"medians of {found['rounds']} rounds"
    return sentences(f"""
        Collecting reacher with {found["processes"]} processes (`scripts/benchmark_collect.py`, start-up
        included, {rounds}, {machine}): {fast:,.0f} frames a second, {fast / rates["bare, fast"]:.2f} of as
        many bare renderers that do nothing else; {PEER}'s `World.collect` gives {rates[PEER]:,.0f}, and ours
        {full:,.0f} at its rendering quality.
    """)


def scoring() -> str:
    """Plans scored by the model, and by the peer."""
    found, machine = kept("planning")
    row = next(row for row in found["scoring"] if (row["episodes"], row["candidates"]) == (50, 64))
    times = {name: f"{value:.0f}" for name, value in row["milliseconds"].items()}
    # `worldjepa plan` takes bfloat16 where the hardware gains by it alone.
    gains = row["milliseconds"]["bfloat16"] < row["milliseconds"]["ours"]
    rounded = f", in bfloat16 {times['bfloat16']}" if gains else ""
    lewm = found["lewm"]
    return sentences(f"""
        Positions in the predictor are relative, so a rollout keeps keys and values and computes no token
        twice: 50 episodes × 64 candidates, five blocks ahead, take {times["ours"]} ms{rounded}, against
        {times["recomputed"]} with the window recomputed at each step; one
        robot's decision takes {found["decision"]:.0f} ms (`scripts/benchmark_planning.py`,
        {found["threads"]} threads, {machine}). With LeWorldModel's architecture and weights in float32 our
        agent scores {lewm["ours"] / lewm["theirs"]:.1f} times the plans per second of {PEER}'s
        `CEMSolver`, costs equal to {lewm["costs_apart"]:.0e}.
    """)


def profile() -> str:
    """Where the time of a training step goes."""
    found, machine = kept("profile")
    return f"On {machine}:\n\n{profile_table(found)}"


def sigreg() -> str:
    """SIGReg beside the two published ways to write it."""
    found, machine = kept("sigreg")
    rows = []
    for row in found["rows"]:
        if len(row["samples"]) == 1:
            times = row["milliseconds"]
            ratio = f"{times['plain'] / times['ours']:.1f} ×"
            rows.append([f"{row['samples'][0]:,}", *(_milliseconds(times[form]) for form in FORMS), ratio])
    said = sentences(f"""
        `scripts/benchmark_sigreg.py`, forward and backward on {found["threads"]} threads, float32, 1,024
        slices, {found["knots"]} knots, projection included, {machine}:
    """)
    memory = found["megabytes"]
    ours, plain = (f"{memory[form]:.0f} MB" for form in ("ours", "plain"))
    end = sentences(f"""
        At N = 2048 it takes {ours} beside its input, the plain form {plain}. The process keeps freed memory
        for what comes next, as every command here does; where it goes back to the system, as by default, the
        plain form takes {_milliseconds(found["given_back"]["plain"])} there and ours
        {_milliseconds(found["given_back"]["ours"])}.
    """)
    return f"{said}\n\n{markdown(['samples N', *FORMS.values(), ''], rows)}\n\n{end}"


def _milliseconds(value: float) -> str:
    return f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"
