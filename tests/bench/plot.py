"""The plot of bench.py: what all clients together get, against their number, as an SVG that is readable on light and on
dark pages (it has a background of its own and follows prefers-color-scheme)."""
import html
import math
import statistics

WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 72, 168, 64, 56       # room around the axes, for the labels
INK = {                                          # class: (on light, on dark)
    'page': ('#ffffff', '#0d1117'), 'ink': ('#1f2328', '#e6edf3'), 'soft': ('#59636e', '#9198a1'), 'grid': ('#d8dee4', '#2b323b'),
    'a': ('#0550ae', '#58a6ff'), 'b': ('#8250df', '#bc8cff'), 'c': ('#bc4c00', '#ff9a4d'), 'd': ('#116329', '#56d364'),
    'e': ('#a40e26', '#ff7b72'), 'f': ('#7d4e00', '#e3b341'), 'g': ('#0a6c74', '#4fc6d0'), 'h': ('#99286e', '#f778ba'),
}
STYLE = {                                        # series: (class, width, dashes)
    'shim': ('a', 3, ''), 'shim -n': ('a', 1.8, '6 4'), 'loop of sends': ('soft', 1.8, '2 4'), 'bare, sending': ('soft', 1.5, ''),
    'bare, sending, batching': ('soft', 1.5, '8 3'),
    'dtach': ('c', 1.8, ''), 'dtach (socket)': ('c', 1.8, '6 4'), 'abduco': ('h', 1.8, ''), 'tmux': ('d', 1.8, ''),
    'screen': ('e', 1.8, ''), 'conmon': ('b', 1.8, ''),
}
NAMES = {'shim': 'shim, recording', 'shim -n': 'shim, not recording', 'loop of sends': 'loop of sends, no PTY', 'conmon': 'conmon, logging'}


def label(name, lossy):
    return NAMES.get(name, name) + (', loses bytes' if lossy else '')


def style_sheet():
    def rules(i):
        return ''.join(f'.{name}{{fill:{ink[i]}}}.l-{name}{{stroke:{ink[i]};fill:none}}' for name, ink in INK.items())
    return (f'<style>text{{font:12px system-ui,sans-serif}}{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}</style>')


def spread_labels(wanted, least):
    """Moves labels (y, ...) apart so that they do not cover each other."""
    placed = []
    for y, *rest in sorted(wanted):
        placed.append([max(y, placed[-1][0] + least) if placed else y, *rest])
    over = placed[-1][0] - (HEIGHT - BOTTOM) if placed else 0
    for i in range(len(placed) - 1, -1, -1):     # what has left at the bottom pushes back
        limit = HEIGHT - BOTTOM if i == len(placed) - 1 else placed[i + 1][0] - least
        if over > 0:
            placed[i][0] = min(placed[i][0], limit)
    return placed


def draw(results, subtitle):
    """`results`: {(contestant, clients): [{'delivered': MiB/s}, ...]}; gives the SVG."""
    series, lossy = {}, set()
    for (name, count), runs in results.items():
        if any('%' in r.get('lost', '') for r in runs):
            lossy.add(name)
        values = [r['delivered'] for r in runs if r.get('delivered')]
        if values:
            series.setdefault(name, []).append((count, statistics.median(values)))
    every = [v for points in series.values() for _, v in points] or [1, 1000]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))

    def x(count):
        return LEFT + math.log10(count) / 3 * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
           '<title>Throughput against the number of clients</title>', style_sheet(),
           f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
           f'<text class="ink" x="{LEFT}" y="26" style="font-size:16px;font-weight:600">What all clients together get, MiB/s</text>',
           f'<text class="soft" x="{LEFT}" y="46">{html.escape(subtitle)}</text>']
    for power in range(low, high + 1):
        for factor in (1, 2, 5):
            if power == high and factor > 1:
                continue
            at = y(factor * 10 ** power)
            out.append(f'<path class="l-grid" stroke-width="{1 if factor == 1 else 0.5}" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            if factor == 1 or high - low < 3:
                out.append(f'<text class="soft" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{factor * 10 ** power:,g}</text>')
    for count in (1, 3, 10, 30, 100, 300, 1000):
        out.append(f'<path class="l-grid" stroke-width="0.5" d="M{x(count):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        out.append(f'<text class="soft" x="{x(count):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count:,}</text>')
    out.append(f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">clients</text>')
    labels = []
    for name, points in sorted(series.items(), key=lambda item: item[0] == 'shim'):  # ours on top
        colour, width, dashes = STYLE.get(name, ('soft', 1.5, ''))
        line = 'L'.join(f'{x(c):.1f} {y(v):.1f}' for c, v in sorted(points))
        out.append(f'<path class="l-{colour}" stroke-width="{width}" stroke-linejoin="round" stroke-dasharray="{dashes or "none"}" d="M{line}"/>')
        out += [f'<circle class="{colour}" cx="{x(c):.1f}" cy="{y(v):.1f}" r="{3.5 if name == "shim" else 2.5}"/>' for c, v in points]
        last = max(points)
        labels.append((y(last[1]), x(last[0]), y(last[1]), colour, label(name, name in lossy), name == 'shim'))
    for at, from_x, from_y, colour, name, bold in spread_labels(labels, 15):
        out.append(f'<path class="l-{colour}" stroke-width="0.75" stroke-opacity="0.6" stroke-dasharray="1 3" d="M{from_x + 6:.1f} {from_y:.1f}'
                   f'L{WIDTH - RIGHT + 6} {at:.1f}"/>')
        weight = ' style="font-weight:600"' if bold else ''
        out.append(f'<text class="{colour}" x="{WIDTH - RIGHT + 10}" y="{at + 4:.1f}"{weight}>{html.escape(name)}</text>')
    return '\n'.join(out) + '\n</svg>\n'
