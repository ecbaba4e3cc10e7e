"""How the page looks: one theme, light and dark, and the style sheet of the parts that Gradio has no component for.

System fonts only, so that nothing is fetched from elsewhere. Own rules begin with `sm-`; colours are variables, defined once for
each mode. Areas that change while a job runs have a fixed height, so that nothing below them moves.
"""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, sizes

TEAL = colors.Color(
    name="studio-teal",
    c50="#effcf9", c100="#cdf5ec", c200="#9deadb", c300="#62d6c4", c400="#2fbaa8", c500="#159d8d", c600="#0d7d72",
    c700="#0f645d", c800="#11504b", c900="#13423e", c950="#042724",
)  # fmt: skip
STONE = colors.Color(
    name="studio-stone",
    c50="#faf9f7", c100="#f3f2ee", c200="#e6e4de", c300="#d3d0c8", c400="#a3a098", c500="#75736c", c600="#57554f",
    c700="#3d3c38", c800="#272725", c900="#1b1c1b", c950="#121312",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Warm grey and one accent; the body text is at least 7:1 on its ground in both modes."""
    look = gr.themes.Base(
        primary_hue=TEAL,
        secondary_hue=TEAL,
        neutral_hue=STONE,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"],
    )
    return look.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_shadow="none",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_large_text_weight="600",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )


CSS = """
:root { --sm-ink: #1b1c1b; --sm-soft: #57554f; --sm-line: #e6e4de; --sm-card: #ffffff; --sm-well: #f3f2ee; --sm-accent: #0d7d72;
  --sm-accent-soft: #cdf5ec; --sm-bad: #a4262c; --sm-bad-soft: #fdecea; --sm-warn: #7a4d00; --sm-warn-soft: #fdf1d8;
  --sm-good: #1f6b3a; --sm-good-soft: #e3f4e8; --sm-info-soft: #eef3f8; --sm-info: #274b6d; }
.dark { --sm-ink: #f3f2ee; --sm-soft: #a9a69e; --sm-line: #34342f; --sm-card: #1b1c1b; --sm-well: #121312; --sm-accent: #62d6c4;
  --sm-accent-soft: #11504b; --sm-bad: #ffb4ab; --sm-bad-soft: #46201f; --sm-warn: #f5cf83; --sm-warn-soft: #3d2f12;
  --sm-good: #9bdcb0; --sm-good-soft: #173322; --sm-info-soft: #1c2a37; --sm-info: #b5d3ee; }
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
.sm-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 14px; padding: 6px 2px 2px; }
.sm-head h1 { font-size: 1.35rem; font-weight: 700; margin: 0; color: var(--sm-ink); letter-spacing: -.01em; }
.sm-head p { margin: 0; color: var(--sm-soft); }
.sm-title { font-weight: 600; margin: 0 0 2px; color: var(--sm-ink); }
.sm-hint { color: var(--sm-soft); font-size: .9rem; line-height: 1.45; margin: 0; }
.sm-notice { border-radius: 8px; padding: 9px 12px; line-height: 1.45; font-size: .92rem; overflow-wrap: anywhere; }
.sm-notice + .sm-notice { margin-top: 6px; }
.sm-notice.sm-error { background: var(--sm-bad-soft); color: var(--sm-bad); }
.sm-notice.sm-warning { background: var(--sm-warn-soft); color: var(--sm-warn); }
.sm-notice.sm-info { background: var(--sm-info-soft); color: var(--sm-info); }
.sm-notice.sm-good { background: var(--sm-good-soft); color: var(--sm-good); }
.sm-notice b { font-weight: 650; }
.sm-empty { border: 1px dashed var(--sm-line); border-radius: 10px; padding: 26px 20px; color: var(--sm-soft); line-height: 1.55;
  text-align: center; background: var(--sm-card); }
.sm-empty b { color: var(--sm-ink); display: block; margin-bottom: 4px; }
.sm-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 10px; }
.sm-card { appearance: none; border: 1px solid var(--sm-line); background: var(--sm-card); border-radius: 10px; padding: 6px; text-align: left;
  cursor: pointer; color: var(--sm-ink); font: inherit; display: flex; flex-direction: column; gap: 4px; min-width: 0; }
.sm-card:hover { border-color: var(--sm-accent); }
.sm-card:focus-visible, .sm-transport button:focus-visible { outline: 2px solid var(--sm-accent); outline-offset: 2px; }
.sm-card[aria-pressed="true"] { border-color: var(--sm-accent); box-shadow: 0 0 0 1px var(--sm-accent); }
.sm-card video, .sm-card .sm-blank { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--sm-well); border-radius: 6px; display: block; }
.sm-card .sm-words { font-size: .86rem; font-weight: 600; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.sm-card .sm-meta { font-size: .76rem; color: var(--sm-soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.sm-chip { display: inline-block; border-radius: 999px; padding: 1px 8px; font-size: .75rem; font-weight: 600; line-height: 1.5; }
.sm-chip.sm-error { background: var(--sm-bad-soft); color: var(--sm-bad); }
.sm-chip.sm-warning { background: var(--sm-warn-soft); color: var(--sm-warn); }
.sm-chip.sm-info { background: var(--sm-info-soft); color: var(--sm-info); }
.sm-chip.sm-good { background: var(--sm-good-soft); color: var(--sm-good); }
.sm-strip { display: block; width: 100%; border-radius: 6px; background: var(--sm-well); }
.sm-player { background: var(--sm-card); border: 1px solid var(--sm-line); border-radius: 10px; padding: 10px; }
.sm-player + .sm-player { margin-top: 10px; }
.sm-stage { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 10px; justify-items: center; }
.sm-stage figure { margin: 0; width: 100%; max-width: 340px; min-width: 0; }
.sm-stage video { width: 100%; aspect-ratio: var(--sm-aspect, 1); object-fit: contain; background: var(--sm-well); border-radius: 6px; display: block; }
.sm-stage figcaption { font-size: .84rem; color: var(--sm-soft); margin-top: 4px; line-height: 1.4; overflow-wrap: anywhere; }
.sm-stage figcaption b { color: var(--sm-ink); font-weight: 600; }
.sm-stage figcaption a { color: var(--sm-accent); text-decoration: underline; text-underline-offset: 2px; white-space: nowrap; }
.sm-wait { width: 100%; aspect-ratio: 1; display: grid; place-items: center; text-align: center; padding: 8px; box-sizing: border-box;
  background: var(--sm-well); border-radius: 6px; color: var(--sm-soft); font-size: .84rem; }
.sm-compare { display: grid; grid-template-columns: minmax(104px, 1fr) 3fr; gap: 14px; align-items: start; }
.sm-compare .sm-stage { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); }
.sm-steps { display: flex; flex-direction: column-reverse; gap: 12px; max-height: 520px; overflow-y: auto; }
.sm-steps h4 { margin: 0 0 5px; font-size: .84rem; font-weight: 600; color: var(--sm-soft); }
.sm-transport { display: flex; align-items: center; gap: 10px; margin-top: 8px; }
.sm-transport button { border: 1px solid var(--sm-line); background: var(--sm-well); color: var(--sm-ink); border-radius: 8px; height: 36px; min-width: 44px;
  font: inherit; font-size: .85rem; cursor: pointer; }
.sm-transport input[type="range"] { flex: 1; min-width: 60px; accent-color: var(--sm-accent); height: 28px; }
.sm-status { border: 1px solid var(--sm-line); border-radius: 10px; background: var(--sm-card); padding: 12px 14px; min-height: 92px; box-sizing: border-box; }
.sm-status .sm-row { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; justify-content: space-between; }
.sm-status .sm-now { font-weight: 600; color: var(--sm-ink); }
.sm-status .sm-numbers { color: var(--sm-soft); font-size: .88rem; font-variant-numeric: tabular-nums; }
.sm-bar { height: 8px; border-radius: 4px; background: var(--sm-line); overflow: hidden; margin: 9px 0 8px; }
.sm-bar span { display: block; height: 100%; background: var(--sm-accent); border-radius: 4px; transition: width .4s ease; }
.sm-status .sm-message { color: var(--sm-soft); font-size: .88rem; overflow-wrap: anywhere; }
.sm-plot { border: 1px solid var(--sm-line); border-radius: 10px; background: var(--sm-card); height: 216px; overflow: hidden; box-sizing: border-box; position: relative; }
.sm-plot svg { display: block; width: 100%; height: 100%; }
.sm-plot .sm-grid-line { stroke: var(--sm-line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.sm-plot .sm-raw { fill: none; stroke: var(--sm-accent); opacity: .28; stroke-width: 1; vector-effect: non-scaling-stroke; }
.sm-plot .sm-smooth { fill: none; stroke: var(--sm-accent); stroke-width: 2.2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.sm-plot .sm-tick { position: absolute; font-size: .72rem; color: var(--sm-soft); font-variant-numeric: tabular-nums; }
.sm-plot .sm-none { position: absolute; inset: 0; display: grid; place-items: center; color: var(--sm-soft); padding: 0 20px; text-align: center; font-size: .9rem; }
.sm-plan { list-style: none; margin: 0; padding: 0; display: grid; gap: 5px; }
.sm-plan li { border-left: 3px solid var(--sm-accent-soft); padding: 1px 0 1px 10px; font-size: .9rem; color: var(--sm-ink); overflow-wrap: anywhere; }
.sm-plan-box { border: 1px solid var(--sm-line); border-radius: 10px; padding: 11px 14px; background: var(--sm-card); min-height: 72px; }
@media (max-width: 640px) {
  .gradio-container > main, .gradio-container .main { padding: 10px !important; }
  .sm-grid { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 8px; }
  .sm-plot { height: 180px; }
}
@media (prefers-reduced-motion: reduce) { .sm-bar span { transition: none; } }
"""
