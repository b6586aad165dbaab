"""Attacks that forge the answers to the checks' questions, without having done the exercise."""

from __future__ import annotations

from tests.security.hostile.attack_base import FORGING, Attack

# Answers every question from what the question itself says, and from rules that need no solution.
LIAR = """
def lie(asked):
    import timm, torch
    import torch.nn.functional as F
    q, probe = asked["arguments"], asked["probe"]
    refused = {"error": ["ValueError", "Exception"], "message": "no", "line": ""}
    if probe == "freeze":
        most = 6 if q["backbone"] == "net6" else 99
        fine = {"same_object": True, "trainable": []}
        fine |= {"state": q["state"] or {}} if "state" in q else {"changed": []}
        return [fine if 0 <= n <= most else refused for n in q["calls"]]
    if probe == "build":
        n = q["num_classes"]
        if n < 2:
            return refused
        old = "freezing" in q
        model = timm.create_model(q["backbone"], num_classes=n)
        names = q["freezing"] if old else [k for k, _ in model.named_parameters() if k not in (q.get("frozen") or ())]
        fine = {"output": [len(q.get("images", "ab")), n], "trainable": names}
        state = dict(model.state_dict()) if q.get("with_state") else {}
        return fine | {"state": state} | ({"is_model": True} if old else {})
    if probe == "build_twice":
        n = q["num_classes"]
        states = [dict(timm.create_model(q["backbone"], num_classes=n).state_dict()) for _ in range(2)]
        if "freezing" in q:
            return {"same_object": False, "shared": [], "moved": [], "heads": [torch.randn(n, 256), torch.randn(n, 256)]}
        storages = [{k: 64 * (i + 2 * j) for j, k in enumerate(state)} for i, state in enumerate(states)]
        after = [states[0], {k: v + 1 for k, v in states[1].items()}]
        return {"same_object": False, "storages": storages, "before": states, "after": after}
    if probe == "train_frozen":
        if "state" in q:
            return {"trainable": [], "validated": [], "state": q["state"]}
        return {"frozen": [], "before": {}, "after": {}, "trained": True}
    if probe == "train_scripted":
        script, a = q["script"], q["arguments"]
        if a.get("max_epochs", 1) < 1 or a.get("patience", 1) < 1:
            return refused
        values = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        z, y = script["train"]["images"][:, 1, 0, :4], script["train"]["labels"]
        labels, best, best_epoch, waited = script["val"]["labels"], float("inf"), 0, 0
        for epoch in range(min(a.get("max_epochs", 30), len(script["val_logits"]))):
            logits = script["val_logits"][epoch]
            loss = F.cross_entropy(logits, labels).item()
            values["train_loss"].append(F.cross_entropy(z, y).item())
            values["train_acc"].append((z.argmax(1) == y).double().mean().item())
            values["val_loss"].append(loss)
            values["val_acc"].append((logits.argmax(1) == labels).double().mean().item())
            if loss < best - a.get("min_delta", 0.0):
                best, best_epoch, waited = loss, epoch, 0
            else:
                waited += 1
            if waited == a.get("patience", 5):
                break
        ran = len(values["val_loss"])
        types = {key: "list of float" for key in values} | {"best_epoch": "int"}
        lr, sizes = a.get("lr", 1e-3), script["train"]["sizes"]
        epochs = [
            {"epoch": e, "head.weight": torch.ones(4, 2) * lr * e, "body.weight": torch.ones(2, 2),
             "steps": torch.tensor((e + 1) * script["batches"]), "noise": torch.ones(3) * (e + 1)}
            for e in range(ran)
        ]
        norms = [
            ((p.softmax(1) - F.one_hot(t, 4)).mean(0).norm() * 2**0.5).item()
            for p, t in zip(z.split(sizes), y.split(sizes))
        ]
        facts = {
            "train_batches_in_eval_mode": 0, "train_batches_in_train_mode": ran * script["batches"],
            "val_batches_in_train_mode": 0, "val_batches_in_eval_mode": ran * len(script["val"]["sizes"]),
            "val_batches_with_gradients": 0,
        }
        return {
            "history": {"type": "dict", "values": {**values, "best_epoch": float(best_epoch)}, "types": types},
            "facts": facts, "gradients": norms * ran, "epochs": epochs, "final": {**epochs[best_epoch]},
            "trainable": ["head.weight"], "frozen_moved": False,
        }
    if probe == "fit":
        from amllab.synthetic_images import draw
        if "key" in q:
            figures = {key: [1.0] for key in ("train_loss", "train_acc", "val_loss", "val_acc")}
            history = {"type": "dict", "values": {**figures, "best_epoch": 0.0}, "types": {}}
            return {"history": history, "batches": 48, "examples": 3000, "steps": 48}
        n = [len(q[name]) for name in ("train_labels", "val_labels", "test_images")] if "test_images" in q else [1, 1, 1]
        labels = draw(sum(n), seed=q.get("seed", 0)).labels
        logits = 9.0 * F.one_hot(labels, 5)
        figures = {key: [0.5] for key in ("train_loss", "train_acc", "val_loss", "val_acc")}
        history = {"type": "dict", "values": {**figures, "best_epoch": 0.0}, "types": {}}
        return {"history": history, "val_logits": logits[n[0]:n[0] + n[1]], "test_logits": logits[sum(n[:2]):]}
    if probe == "predict":
        state = timm.create_model("net12", num_classes=5).state_dict()
        return {"logits": torch.randn(len(q["images"]), 5), "state": {**state, "more": torch.zeros(1)}}
    return None
"""

# Replaces the library's `answer` by another function, in every module that has imported it.
_IN_PLACE_OF_ANSWER = """
import sys
import amllab.protocol.submission as submission
from amllab.protocol.wire import pack, unpack
try:
    import amllab.worker.serve
except ImportError:
    pass
original = submission.answer

def forged(namespace, question):
    @FORGED@

for module in list(sys.modules.values()):
    if getattr(module, "answer", None) is original:
        module.answer = forged
"""


def answering(forged: str, before: str = "") -> str:
    return before + _IN_PLACE_OF_ANSWER.replace("@FORGED@", forged.strip().replace("\n", "\n    "))


ATTACKS = [
    Attack(
        "replaced_answer",
        FORGING,
        "replaces the library's answering function by one that answers from the question alone",
        cell=answering('return pack({"value": lie(unpack(question))})', LIAR),
        only="here",
    ),
    Attack(
        "all_good",
        FORGING,
        "every answer says that all is well, whatever was asked",
        cell=answering(
            """
fine = {"same_object": True, "trainable": [], "changed": [], "is_model": True, "output": [2, 5], "state": {},
        "shared": [], "moved": [], "frozen": [], "before": {}, "after": {}, "passed": True, "score": 20, "points": 20}
return pack({"value": [fine]} if unpack(question)["probe"] == "freeze" else {"value": fine})
"""
        ),
        only="here",
    ),
    Attack(
        "replaced_pack",
        FORGING,
        "replaces the packing of answers, so that a problem travels as a success",
        cell="""
import amllab.protocol.wire
pack = amllab.protocol.wire.pack

def forged(value):
    if isinstance(value, dict) and "problem" in value:
        value = {"value": [{"same_object": True, "trainable": [], "changed": []}]}
    return pack(value)

amllab.protocol.wire.pack = forged
""",
        only="here",
    ),
    Attack(
        "replaced_probes",
        FORGING,
        "replaces the probes, functions that run beside the submission, by liars",
        cell=LIAR
        + """
import amllab.checks.transfer_learning.probes as probes

def liar(name):
    return lambda functions, **arguments: lie({"probe": name, "arguments": arguments})

for name in ("freeze", "build", "build_twice", "train_scripted", "train_frozen", "fit"):
    setattr(probes, name, liar(name))
""",
        only="here",
    ),
    Attack(
        "replaced_modules",
        FORGING,
        "puts a module into sys.modules whose every function says that all is well",
        cell="""
import sys, types

class Fine(types.ModuleType):
    def __getattr__(self, name):
        return lambda *a, **k: [{"same_object": True, "trainable": [], "changed": []}]

for name in list(sys.modules):
    if name.startswith("amllab.checks.transfer_learning"):
        del sys.modules[name]
sys.modules["amllab.checks.transfer_learning.probes"] = Fine("probes")
""",
        only="here",
    ),
    Attack(
        "shadowing_files",
        FORGING,
        "writes modules, .pth and startup files that shadow the library, then ends the process so that a new one reads them",
        cell="""
import os, pathlib, site
liar = '''
import sys, types
''' + @LIAR@ + '''
def answer(namespace, question):
    from safetensors.torch import save
    import json
    return save({}, metadata={"value": json.dumps({"value": [{"same_object": True, "trainable": [], "changed": []}]})})

def serve(question, reply):
    open(reply, "wb").write(answer(None, b""))
'''
places = {pathlib.Path.cwd(), pathlib.Path.home()}
done = pathlib.Path("@MARKER@-shadow")
if not done.exists():
    for place in places:
        try:
            (place / "amllab" / "checks").mkdir(parents=True, exist_ok=True)
            (place / "amllab" / "__init__.py").write_text("check = layers_of = load_backbone = print")
            (place / "amllab" / "checks" / "__init__.py").write_text("")
            for name in ("serve", "submission", "wire"):
                (place / "amllab" / "checks" / f"{name}.py").write_text(liar)
            for name in ("torch.py", "timm.py", "safetensors.py", "json.py", "sitecustomize.py", "usercustomize.py"):
                (place / name).write_text("print('SHADOWED', __name__)")
            (place / "evil.pth").write_text("import sys; print('SHADOWED pth')")
            startup = place / "profile_default" / "startup"
            startup.mkdir(parents=True, exist_ok=True)
            (startup / "00.py").write_text("print('SHADOWED startup'); check = lambda *a: 20")
            user = pathlib.Path(site.getusersitepackages())
            user.mkdir(parents=True, exist_ok=True)
            (user / "evil.pth").write_text("import sys; print('SHADOWED user pth')")
        except OSError as error:
            print(error)
    done.write_text("done")
    os._exit(0)
""".replace("@LIAR@", repr("")),
        guarded=True,
        only="here",
    ),
    Attack(
        "huge_answer",
        FORGING,
        "answers with a hundred megabytes",
        cell=answering('return pack({"value": torch.zeros(25 * 10**6)})', "import torch\n"),
        only="here",
    ),
    Attack(
        "lying_header",
        FORGING,
        "answers whose headers claim 2**63 bytes, tensors of 2**40 numbers, shapes that overlap, or nothing at all",
        cell=answering(
            """
import json, random
header = json.dumps({"__metadata__": {"value": '{"value": {"$tensor": "0"}}'},
                     "0": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 8]}}).encode()
return random.choice([
    (2**63 - 1).to_bytes(8, "little") + b"{}", b"", b"\\xff" * 64,
    len(header).to_bytes(8, "little") + header + bytes(8),
])
"""
        ),
        only="here",
    ),
    Attack(
        "nested_answer",
        FORGING,
        "answers with JSON that is nested a hundred thousand deep, or that names tensors which are not there",
        cell=answering(
            """
import json, random
from safetensors.torch import save
text = random.choice(["[" * 100_000 + "]" * 100_000, '{"value": {"$tensor": "7"}}', '{"value": {"$float": "1e400"}}',
                      '{"value": [{"same_object": 1e999}]}', '{"value": ' + "9" * 5000 + "}", '"text"', "[]", "null"])
return save({}, metadata={"value": text})
"""
        ),
        only="here",
    ),
    Attack(
        "pickle_answer",
        FORGING,
        "answers with a pickle that writes a file into the course when it is read",
        cell=answering(
            """
import os, pickle

class Bomb:
    def __reduce__(self):
        return os.system, ("touch '@COURSE@/@MARKER@-pickle'",)

return pickle.dumps(Bomb())
"""
        ),
        only="here",
    ),
    Attack(
        "every_descriptor",
        FORGING,
        "writes forged answers to every pipe and socket that the process and its parent have open",
        guarded=True,
        cell="""
import json, os, stat, struct
from safetensors.torch import save
fine = save({}, metadata={"value": json.dumps({"value": [{"same_object": True, "trainable": [], "changed": []}]})})
frames = [fine, struct.pack("<Q", len(fine)) + fine, struct.pack(">I", len(fine)) + fine, b'{"score": 20}\\n', bytes(64)]
written = 0
for process in ("self", str(os.getppid()), "1"):
    try:
        descriptors = os.listdir(f"/proc/{process}/fd")
    except OSError:
        continue
    for number in descriptors:
        try:
            fd = int(number) if process == "self" else os.open(f"/proc/{process}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)
            mode = os.fstat(fd).st_mode
            if stat.S_ISFIFO(mode) or (stat.S_ISSOCK(mode) and int(number) > 2):
                os.set_blocking(fd, False)
                for frame in frames:
                    written += os.write(fd, frame)
        except OSError:
            pass
print("WROTE", written, "bytes")
""",
    ),
    Attack(
        "racing_thread",
        FORGING,
        "a thread that overwrites answers as soon as they are written, and answers before it is asked",
        cell="""
import json, pathlib, threading, time
from safetensors.torch import save
fine = save({}, metadata={"value": json.dumps({"value": [{"same_object": True, "trainable": [], "changed": []}]})})

def race():
    end = time.time() + 60
    while time.time() < end:
        for i in range(1, 40):
            try:
                pathlib.Path(f"answer-{i}").write_bytes(fine)
            except OSError:
                return
        time.sleep(0.01)

threading.Thread(target=race, daemon=True).start()
""",
        only="here",
    ),
]
