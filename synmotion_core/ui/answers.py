"""Answers that the server has and the browser would not fetch.

Gradio's server ends a page's event stream when nothing is pending, and the browser opens another with its next press
only if it has read that the last one ended. An event that is sent before that is answered into a stream that nobody
opens: what it shows stays as it was, and one that is sent "always_last" is never sent again. So the page counts: where
an event has no answer and there is no stream, it sends one that does nothing, which opens a stream, and all that the
server kept for this page arrives with it.

(A stream that never ends would help, too. But Gradio's browser does not see that such a stream breaks, as when a
computer sleeps, while nothing is pending; a page that was left alone for an hour would then hear nothing any more.)
"""

from __future__ import annotations

import gradio as gr

_NUDGE = "answers-nudge"
_PATIENCE_MS = 250  # after a stream has ended: an event that is sent just then opens one by itself
SCRIPT = f"""<script>
(() => {{
  const real = window.fetch.bind(window);
  const waiting = new Map();  // events without an answer: whether a stream was opened for them here
  const early = new Set();  // those whose answer was read before their id
  let streams = 0;
  const look = () => setTimeout(() => {{
    if (streams || ![...waiting.values()].includes(false)) return;
    const nudge = document.getElementById("{_NUDGE}");
    if (!nudge) return look();  // the page is still being laid out
    for (const id of waiting.keys()) waiting.set(id, true);  // once each: one that was cancelled is never answered
    nudge.click();
  }}, {_PATIENCE_MS});
  const join = async (input, init) => {{
    const answer = await real(input, init);
    try {{
      const id = (await answer.clone().json()).event_id;
      if (answer.ok && id && !early.delete(id)) waiting.set(id, false);
    }} catch {{}}  // no answer of Gradio's, which says so itself
    look();
    return answer;
  }};
  const listen = async (input, init) => {{
    let open = true, tail = "";
    const ended = () => {{ if (open) {{ open = false; streams -= 1; look(); }} }};
    const signal = init?.signal ?? input.signal;
    streams += 1;
    signal?.addEventListener("abort", ended);
    try {{
      const answer = await real(input, init), decoder = new TextDecoder();
      if (!answer.ok || !answer.body) {{ ended(); return answer; }}
      const body = answer.body.pipeThrough(new TransformStream({{
        transform(piece, out) {{
          out.enqueue(piece);
          tail += decoder.decode(piece, {{stream: true}});
          let at = Math.max(0, tail.length - 200);
          for (const found of tail.matchAll(/"msg":"process_completed","event_id":"([^"]*)"/g)) {{
            if (!waiting.delete(found[1])) early.add(found[1]);
            at = Math.max(at, found.index + found[0].length);
          }}
          tail = tail.slice(at);
        }},
        flush: ended,
      }}));
      return new Response(body, {{status: answer.status, headers: answer.headers}});
    }} catch (error) {{
      ended();
      throw error;
    }}
  }};
  window.fetch = (input, init) => {{
    const path = new URL(input instanceof Request ? input.url : input, location.href).pathname;
    if (path.endsWith("/queue/join")) return join(input, init);
    return path.endsWith("/queue/data") ? listen(input, init) : real(input, init);
  }};
}})();
</script>"""


def build() -> None:
    """The event that does nothing; SCRIPT goes into the page's head."""
    nudge = gr.Button("", visible="hidden", elem_id=_NUDGE)
    # not "once": its own answer may be one that is not fetched
    nudge.click(
        lambda: None, None, None, show_progress="hidden", api_visibility="private", trigger_mode="multiple",
        concurrency_limit=None,
    )  # fmt: skip
