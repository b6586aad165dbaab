"""Attacks that forge the answers to the checks' questions, without having done the exercise."""

from __future__ import annotations

from tests.security.hostile.attack_base import FORGING, Attack, about_lab_1
from tests.security.hostile.lies import FINE, LIAR

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
    about_lab_1(
        "replaced_answer",
        FORGING,
        "replaces the library's answering function by one that answers from the question alone",
        cell=answering('return pack({"value": lie(unpack(question))})', LIAR),
        only="here",
    ),
    about_lab_1(
        "all_good",
        FORGING,
        "every answer says that all is well, whatever was asked",
        cell=answering('return pack({"value": fine(unpack(question)["probe"])})', FINE),
        only="here",
    ),
    about_lab_1(
        "replaced_pack",
        FORGING,
        "replaces the packing of answers, so that a problem travels as a success",
        cell=FINE
        + """
import amllab.protocol.wire as wire
pack, unpack, asked = wire.pack, wire.unpack, []

def read(data):
    asked.append(unpack(data))
    return asked[-1]

def forged(value):
    return pack({"value": fine(asked[-1]["probe"])} if isinstance(value, dict) and "problem" in value else value)

wire.pack, wire.unpack = forged, read
""",
        only="here",
    ),
    about_lab_1(
        "replaced_probes",
        FORGING,
        "replaces the probes, functions that run in the submission's process, by ones that lie",
        cell=LIAR
        + """
import amllab.checks.transfer_learning.probes as probes

def liar(name):
    return lambda functions, **arguments: lie({"probe": name, "arguments": arguments})

for name in ("freeze", "build", "build_twice", "train_scripted", "train_frozen", "fit", "predict"):
    setattr(probes, name, liar(name))
""",
        only="here",
    ),
    about_lab_1(
        "replaced_modules",
        FORGING,
        "puts a module into sys.modules whose every function says that all is well",
        cell=FINE
        + """
import sys, types

class Fine(types.ModuleType):
    def __getattr__(self, name):
        return lambda *a, **k: fine(name)

for name in list(sys.modules):
    if name.startswith("amllab.checks.transfer_learning"):
        del sys.modules[name]
sys.modules["amllab.checks.transfer_learning.probes"] = Fine("probes")
""",
        only="here",
    ),
    about_lab_1(
        "shadowing_files",
        FORGING,
        "writes modules, .pth and startup files that shadow the library, then ends the process so that a new one reads them",
        cell="""
import os, pathlib, site
liar = @LIAR@ + '''
def answer(namespace, question):
    from amllab.protocol.wire import pack, unpack
    return pack({"value": lie(unpack(question))})

def serve(*arguments, **more):
    return 0
'''
places = {pathlib.Path.cwd(), pathlib.Path.home()}
done = pathlib.Path("@MARKER@-shadow")
if not done.exists():
    for place in places:
        try:
            for name in ("worker/serve", "protocol/submission", "protocol/wire"):
                module = place / "amllab" / f"{name}.py"
                module.parent.mkdir(parents=True, exist_ok=True)
                (module.parent / "__init__.py").write_text("")
                module.write_text(liar)
            (place / "amllab" / "__init__.py").write_text("check = layers_of = load_backbone = print")
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
""".replace("@LIAR@", repr(LIAR)),
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
    about_lab_1(
        "every_descriptor",
        FORGING,
        "writes forged answers to every pipe and socket that the process and its parent have open",
        guarded=True,
        cell=FINE
        + """
import os, stat
from amllab.protocol.wire import pack
answers = [pack({"value": fine(probe)}) for probe in ("freeze", "build", "train_scripted")]
replies = [b'{"state": "ok", "runs_on": false}\\n' + answer for answer in answers]
frames = [len(data).to_bytes(8, "big") + data for data in replies] + answers + [b'{"score": 20}\\n', bytes(64)]
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
    about_lab_1(
        "racing_thread",
        FORGING,
        "a thread and a process that read questions from every socket, answer them, and write answers to all of them",
        cell=LIAR
        + """
import marshal, os, socket, sys, threading, time
from amllab.protocol.wire import pack, unpack

def race(end=time.time() + 100):
    last, asked = pack({"value": fine("freeze")}), {}
    while time.time() < end:
        for name in os.listdir("/proc/self/fd"):
            try:
                stream = socket.socket(fileno=os.dup(int(name)))
            except OSError:
                continue
            try:
                with stream:
                    data = asked[name] = asked.get(name, b"") + stream.recv(1 << 22, socket.MSG_DONTWAIT)
                    if int.from_bytes(data[:8], "big") <= len(data) - 8:
                        last = pack({"value": lie(unpack(marshal.loads(data[8:])[1]))})
                        asked[name] = b""
                    for answer in (last, data[8:24] + last):
                        stream.send(len(answer).to_bytes(8, "big") + answer, socket.MSG_DONTWAIT)
            except Exception:
                pass

sys.setswitchinterval(1e-5)
threading.Thread(target=race, daemon=True).start()
if not os.fork():
    race()
    os._exit(0)
""",
        only="here",
    ),
]
