"""How the page looks: one theme, light and dark, and theme.css, the style sheet of what Gradio has no component for.

System fonts only, so that nothing is fetched from elsewhere. Own rules begin with `sm-`; colours are variables, defined
once for each mode. Areas that change while a job runs have a fixed height, so that nothing below them moves.
"""

from __future__ import annotations

from pathlib import Path

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
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_large_text_weight="600",
        button_border_width="1px",
        button_cancel_border_color="*neutral_300",
        button_cancel_border_color_dark="*neutral_700",
        input_border_width="1px",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_500",
        checkbox_border_color_selected="*primary_600",
        checkbox_border_color_selected_dark="*primary_500",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )


CSS = (Path(__file__).parent / "theme.css").read_text(encoding="utf-8")
