"""The benchmark itself: that it runs, and that nothing of what the shim sends to any number of clients is lost."""
import json
import os
import subprocess
import xml.etree.ElementTree

from harness import BUILD, PYTHON, ROOT

BENCH = os.path.join(ROOT, 'tests', 'bench', 'bench.py')


def test_a_thousand_clients_get_every_byte_and_the_plot_is_drawn(tmp_path):
    """Contract, section 2: a client is a position in one ring, so 1 or 1,000 clients are served alike. bench.py
    compares each client's bytes with what the program wrote; `lost` or `error` in a result says what was wrong."""
    results, plot = tmp_path / 'results.json', tmp_path / 'plot.svg'
    command = [PYTHON, BENCH, '--quick', '--only', 'shim', '--cases', 'curve', '--shim', os.path.join(BUILD, 'shim'),
               '--json', results, '--svg', plot]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    curve = json.loads(results.read_text())['curve']
    assert {'shim / 1', 'shim / 1000', 'loop of sends / 1000'} <= set(curve)
    for key, rounds in curve.items():
        for result in rounds:
            assert result.get('delivered', 0) > 0 and not result.get('lost') and not result.get('error'), (key, result)
    assert xml.etree.ElementTree.parse(plot).getroot().tag.endswith('svg')
