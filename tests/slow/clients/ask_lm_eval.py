"""lm-eval in an environment of its own asks the server; see test_clients.py."""

import json
import logging
import os
import threading
import time
from pathlib import Path

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.tasks import TaskManager
from scene import SCENE, answer_with, told

FOLDER = Path(SCENE["folder"]) / "lm_eval"
TASKS = {
    "toy_saying.yaml": """
task: toy_saying
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], max_gen_toks: {most}, temperature: 0}}
metric_list: [{{metric: exact_match}}]
""",
    "toy_choosing.yaml": """
task: toy_choosing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["{{{{answer}}}}", " fox fox fox"]
doc_to_target: 0
metric_list: [{{metric: acc}}]
""",
}
SAYING = SCENE["messages"][0]["content"]


def settle():
    FOLDER.mkdir(exist_ok=True)
    data = FOLDER / "data.jsonl"
    data.write_text(json.dumps({"question": SAYING, "answer": SCENE["plain"]}) + "\n")
    for name, text in TASKS.items():
        (FOLDER / name).write_text(text.format(data=data, most=SCENE["max_tokens"]))


def chat(base="open", model="toy", **more):
    return {"model": model, "base_url": f"{SCENE[base]}/chat/completions", "max_retries": 1, **more}


def texts(base="open", model="toy", **more):
    tokenizer = {"tokenizer": SCENE["tokenizer"], "tokenizer_backend": "huggingface"}
    return {"model": model, "base_url": f"{SCENE[base]}/completions", "max_retries": 1, **tokenizer, **more}


def evaluated(kind, args, task):
    found = lm_eval.simple_evaluate(
        model=kind,
        model_args=args,
        tasks=[task],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        apply_chat_template=kind == "local-chat-completions", log_samples=True, bootstrap_iters=0, batch_size=1,
    )  # fmt: skip
    return found["samples"][task][0]


def said(args):
    return evaluated("local-chat-completions", args, "toy_saying")["resps"][0][0]


def scores(**more):
    """Log-likelihoods of two continuations, and whether greedy decoding would have said them."""
    model = LocalCompletionsAPI(**texts(**more))
    asked = [Instance("loglikelihood", {}, (SAYING, after), i) for i, after in enumerate(SCENE["continuations"])]
    return [list(pair) for pair in model.loglikelihood(asked, disable_tqdm=True)]


def ask(messages, most=SCENE["max_tokens"]):
    """One request through the client's own door for generation."""
    asked = JsonChatStr(json.dumps(messages))
    request = Instance("generate_until", {}, (asked, {"max_gen_toks": most, "until": []}), 0)
    return LocalChatCompletion(**chat()).generate_until([request], disable_tqdm=True)


class Overheard(logging.Handler):
    """What lm-eval writes of a refusal: its own error tells the status alone."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def refused(asking):
    heard = Overheard()
    logging.getLogger("lm_eval").addHandler(heard)
    found = told(asking)
    logging.getLogger("lm_eval").removeHandler(heard)
    return {**found, "text": "\n".join([found.get("text", ""), *heard.lines])}


def cells():
    settle()
    found = {"plain": said(chat()), "preset": said(chat(model="toy:first"))}
    found["loglikelihood"] = scores()
    found["loglikelihood of texts"] = scores(tokenized_requests=False)
    found["loglikelihood, both at once"] = scores(batch_size=2)
    found["choice"] = evaluated("local-completions", texts(), "toy_choosing")["acc"]
    os.environ["OPENAI_API_KEY"] = SCENE["token"]
    found["token"] = said(chat("locked"))
    os.environ["OPENAI_API_KEY"] = "something else"
    found["wrong token"] = refused(lambda: said(chat("locked")))
    found["too long"] = refused(lambda: ask(SCENE["too_long"]))
    return found


def abort():
    """It does not stream: it leaves while it waits for the whole."""
    threading.Thread(target=lambda: ask(SCENE["messages"], most=400), daemon=True).start()
    time.sleep(1.5)


answer_with(cells, abort)
