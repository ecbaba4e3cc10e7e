"""A clip from the camera: recorded by the browser, kept as it came, judged by the clip doctor like any other.

recorder.js records; its file goes into an upload field that nobody sees, so that it comes by the same way as every
upload, and no address or path is taken from the browser. Browsers record WebM in VP8 (Chrome, Firefox) or MP4 in H.264
(Safari), at a varying rate and without a length in the header. The one decoder reads all of them; the doctor then
proposes the backbone's rate.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from synmotion_core.ui.notices import hint

NAME = "camera"  # what a recording is called among the clips
RECORDER_JS = (Path(__file__).parent / "recorder.js").read_text(encoding="utf-8")
_ABOUT = (
    "Allow the camera, press Record, do the motion a few times with the whole body in the picture, press Stop. Each "
    "recording becomes a clip; there is no sound. A browser gives its camera to this computer and to https pages only."
)
_RECORDER = """<div class="sm-recorder">
<div class="sm-screen"><video data-screen muted playsinline aria-label="What the camera sees" hidden></video>
<span data-count aria-hidden="true"></span><span data-time aria-hidden="true"></span></div>
<div class="sm-keys"><button type="button" data-on>Turn the camera on</button>
<button type="button" data-go hidden>Record</button>
<label data-countdown hidden>begins after <select data-wait aria-label="Seconds before a recording begins">
<option value="0">0 s</option><option value="3" selected>3 s</option><option value="10">10 s</option></select></label>
<button type="button" data-off hidden>Turn it off</button></div>
<p class="sm-hint" data-said role="status"></p></div>"""


def camera_fields() -> gr.File:
    """The recorder, folded away, laid out where this is called. Returns the field in which a recording arrives."""
    with gr.Accordion("Record with the camera", open=False, elem_id="clips-camera"):
        gr.HTML(hint(_ABOUT), apply_default_css=False)
        gr.HTML(_RECORDER, elem_id="clips-recorder", apply_default_css=False, js_on_load=RECORDER_JS)
    return gr.File(file_types=[".webm", ".mp4"], visible="hidden", elem_id="clips-recorded")
