"""Commands that put a running endpoint to the test."""

from __future__ import annotations

from invoke import Context, Exit, task

from commands.common import CERTIFICATES, FORMAT, data, environ, problems_in_plain_words, say


@task(
    auto_shortflags=False,
    help={
        "url": "the API: http://HOST:PORT, of a server, a leader or a proxy",
        "model": "the served model's name (default: the first that the endpoint lists)",
        "key-env": "the variable that holds the API key (default: VLLM_API_KEY)",
        "timeout": "seconds that an answer may take (default: 60)",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
)
def verify(
    c: Context,
    url: str,
    model: str = "",
    key_env: str = "VLLM_API_KEY",
    timeout: float = 60.0,
    certificates: str = "",
    format: str = "text",
) -> None:
    """Check that an endpoint answers as it should: invoke verify http://10.0.0.1:8000

    Models, completions and chat, streamed and not, usage, stop, requests at once, and what bad
    requests are answered. Exits with 70 when something is wrong, 69 when nobody answers.
    """
    with problems_in_plain_words():
        from images.errors import EX_SOFTWARE
        from trials import show
        from trials import verify as trial
        from trials.client import Endpoint

        endpoint = Endpoint(url, environ().get(key_env, ""), timeout, certificates)
        results = []
        for result in trial.verify(endpoint, model):
            results.append(result)
            tell = print if format == "text" else say
            tell(show.result_text(result))
        data(format, show.results_data(results), lambda: show.summary_text(results))
        if any(one.state == trial.FAILED for one in results):
            raise Exit(code=EX_SOFTWARE)
