"""The plot of bench.py: what all clients together get, against their number, as an SVG that is readable on light and on
dark pages (it has a background of its own and follows prefers-color-scheme)."""
import html
import math
import statistics

WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 72, 168, 64, 56       # room around the axes, for the labels
INK = {                                          # class: (on light, on dark)
    'page': ('#ffffff', '#0d1117'), 'ink': ('#1f2328', '#e6edf3'), 'soft': ('#59636e', '#9198a1'),
    'grid': ('#d8dee4', '#2b323b'), 'blue': ('#0550ae', '#58a6ff'), 'violet': ('#8250df', '#bc8cff'),
    'orange': ('#bc4c00', '#ff9a4d'), 'green': ('#116329', '#56d364'), 'red': ('#a40e26', '#ff7b72'),
    'pink': ('#99286e', '#f778ba'),
}
SERIES = {                                       # contestant: (class, width, dashes, name in the plot)
    'shim': ('blue', 3, '', 'shim, recording'), 'shim -n': ('blue', 1.8, '6 4', 'shim, not recording'),
    'loop of sends': ('soft', 1.8, '2 4', 'loop of sends, no PTY'),
    'bare, sending, batching': ('soft', 1.5, '8 3', 'bare broadcaster'),
    'dtach': ('orange', 1.8, '', 'dtach'), 'dtach (socket)': ('orange', 1.8, '6 4', 'dtach (socket)'),
    'abduco': ('pink', 1.8, '', 'abduco'), 'tmux': ('green', 1.8, '', 'tmux'), 'screen': ('red', 1.8, '', 'screen'),
    'conmon': ('violet', 1.8, '', 'conmon, logging'),
}


def style_sheet():
    def rules(i):
        return ''.join(f'.{name}{{fill:{ink[i]}}}.l-{name}{{stroke:{ink[i]};fill:none}}' for name, ink in INK.items())
    return (f'<style>text{{font:12px system-ui,sans-serif}}{rules(0)}'
            f'@media(prefers-color-scheme:dark){{{rules(1)}}}</style>')


def text(ink, x, y, words, anchor='start', style=''):
    return (f'<text class="{ink}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">'
            f'{html.escape(words)}</text>')


def line(ink, width, points, more=''):
    path = 'L'.join(f'{x:.1f} {y:.1f}' for x, y in points)
    return f'<path class="l-{ink}" stroke-width="{width}" {more} d="M{path}"/>'


def apart(wanted, least):
    """Moves labels (y, ...) apart, so that they do not cover each other, and back from the bottom."""
    placed = []
    for y, *rest in sorted(wanted):
        placed.append([max(y, placed[-1][0] + least) if placed else y, *rest])
    lowest = HEIGHT - BOTTOM
    for label in reversed(placed):
        label[0] = min(label[0], lowest)
        lowest = label[0] - least
    return placed


def medians(results):
    """({contestant: [(clients, MiB/s)]}, those that lost bytes)"""
    series, lossy = {}, set()
    for (name, count), runs in results.items():
        if any('%' in r.get('lost', '') for r in runs):
            lossy.add(name)
        values = [r['delivered'] for r in runs if r.get('delivered')]
        if values:
            series.setdefault(name, []).append((count, statistics.median(values)))
    return series, lossy


def draw(results, subtitle):
    """`results`: {(contestant, clients): [{'delivered': MiB/s}, ...]}; gives the SVG."""
    series, lossy = medians(results)
    every = [value for points in series.values() for _, value in points] or [1, 1000]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(count):
        return LEFT + math.log10(count) / 3 * (right - LEFT)

    def y(value):
        return bottom - (math.log10(value) - low) / max(high - low, 1) * (bottom - TOP)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
           '<title>Throughput against the number of clients</title>', style_sheet(),
           f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
           text('ink', LEFT, 26, 'What all clients together get, MiB/s', style='font-size:16px;font-weight:600'),
           text('soft', LEFT, 46, subtitle), text('soft', (LEFT + right) / 2, HEIGHT - 14, 'clients', 'middle')]
    for value in [factor * 10 ** power for power in range(low, high + 1) for factor in (1, 2, 5)]:
        if value > 10 ** high:
            continue
        whole = math.log10(value) % 1 == 0
        out.append(line('grid', 1 if whole else 0.5, [(LEFT, y(value)), (right, y(value))]))
        if whole or high - low < 3:
            out.append(text('soft', LEFT - 8, y(value) + 4, f'{value:,g}', 'end'))
    for count in (1, 3, 10, 30, 100, 300, 1000):
        out.append(line('grid', 0.5, [(x(count), TOP), (x(count), bottom)]))
        out.append(text('soft', x(count), bottom + 18, f'{count:,}', 'middle'))
    labels = []
    for name, points in sorted(series.items(), key=lambda item: item[0] == 'shim'):  # ours on top
        ink, width, dashes, words = SERIES.get(name, ('soft', 1.5, '', name))
        at = [(x(count), y(value)) for count, value in sorted(points)]
        out.append(line(ink, width, at, f'stroke-linejoin="round" stroke-dasharray="{dashes or "none"}"'))
        out += [f'<circle class="{ink}" cx="{a:.1f}" cy="{b:.1f}" r="{1 + width * 0.85:.1f}"/>' for a, b in at]
        labels.append((at[-1][1], at[-1], ink, words + ', loses bytes' * (name in lossy), name == 'shim'))
    for height, (from_x, from_y), ink, words, bold in apart(labels, 15):
        out.append(line(ink, 0.75, [(from_x + 6, from_y), (right + 6, height)], 'stroke-dasharray="1 3"'))
        out.append(text(ink, right + 10, height + 4, words, style='font-weight:600' if bold else ''))
    return '\n'.join(out) + '\n</svg>\n'
