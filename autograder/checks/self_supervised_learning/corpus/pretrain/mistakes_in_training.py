"""Mistakes in gradients, steps, modes and arguments."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.plain import PLAIN
from autograder.checks.self_supervised_learning.corpus.pretrain.changes import (
    BACK,
    CLEAR,
    FORWARD,
    LOSS,
    MEAN,
    MODES,
    REFUSE,
    SIGNATURE,
    STEP,
    UPDATE,
    VIEWS,
    whole,
    wrong,
)
from autograder.labs.corpus import replaced

_PARAMETERS = "[*encoder.parameters(), *projector.parameters()]"
_EPOCH = "    for _ in range(epochs):\n"
_SUMS = "        total, seen = 0.0, 0\n"

IN_TRAINING = [
    # nothing learns
    wrong("never_steps", "never takes a step", (10, 13), STEP, ""),
    wrong("never_backward", "never computes gradients", (10, 13), BACK, ""),
    wrong("steps_before_backward", "clears the gradients, steps, and computes them afterwards", (10, 13), UPDATE, CLEAR + STEP + BACK),
    wrong("clears_before_step", "clears the gradients between the backward pass and the step", (10, 13), UPDATE, BACK + CLEAR + STEP),
    wrong("zeroes_before_step", "fills the gradients with zeros before the step", (10, 13), UPDATE,
          BACK + "            optimizer.zero_grad(set_to_none=False)\n" + STEP),
    wrong("trains_copies", "trains copies of both networks", (10, 13), SIGNATURE + REFUSE,
          SIGNATURE + REFUSE + "    encoder, projector = copy.deepcopy(encoder), copy.deepcopy(projector)\n"),
    wrong("projector_alone", "has only the projector's parameters in the optimizer", (8, 13), _PARAMETERS, "list(projector.parameters())"),
    wrong("encoder_frozen", "freezes the encoder", (8, 13), MODES, MODES + "    encoder.requires_grad_(False)\n"),
    wrong("features_detached", "detaches the features from the encoder", (8, 13), FORWARD,
          "            z1, z2 = projector(encoder(first).detach()), projector(encoder(second).detach())\n"),
    wrong("features_without_gradients", "computes the features without gradients", (8, 13), FORWARD,
          "            with torch.no_grad():\n                h1, h2 = encoder(first), encoder(second)\n"
          "            z1, z2 = projector(h1), projector(h2)\n"),
    wrong("uphill", "goes up the gradient instead of down", (8, 13), BACK, "            (-loss).backward()\n"),
    wrong("maximises", "has an optimizer that makes the loss larger", (8, 13), "lr=lr)", "lr=lr, maximize=True)"),
    # gradients
    wrong("encoder_alone", "has only the encoder's parameters in the optimizer", (1, 4), _PARAMETERS, "list(encoder.parameters())"),
    wrong("without_projector", "computes the loss of the encoder's outputs", (3, 8), FORWARD, "            z1, z2 = encoder(first), encoder(second)\n"),
    wrong("projector_for_nothing", "calls the projector, and computes the loss of the encoder's outputs", (3, 8), FORWARD,
          "            z1, z2 = encoder(first), encoder(second)\n            projector(z1)\n"),
    wrong("projector_on_one_view", "has the projector behind one view alone", (3, 12), FORWARD,
          "            z1, z2 = projector(encoder(first)), encoder(second)[:, :6]\n"),
    wrong("second_detached", "detaches the second view", (2, 5), LOSS, LOSS.replace("z2", "z2.detach()")),
    wrong("first_detached", "detaches the first view", (2, 5), LOSS, LOSS.replace("z1", "z1.detach()")),
    wrong("second_without_gradients", "computes the second view without gradients", (2, 5), FORWARD,
          "            z1 = projector(encoder(first))\n            with torch.no_grad():\n                z2 = projector(encoder(second))\n"),
    wrong("second_features_detached", "detaches the features of the second view", (2, 5), FORWARD,
          "            z1, z2 = projector(encoder(first)), projector(encoder(second).detach())\n"),
    wrong("squared_distance", "reports the loss, and trains with the squared distance of both views", (2, 8), BACK,
          "            F.mse_loss(z1, z2).backward()\n"),
    wrong("never_clears", "never clears the gradients", (2, 5), CLEAR, ""),
    wrong("clears_once_an_epoch", "clears the gradients once an epoch", (2, 5), CLEAR, "", _SUMS, _SUMS + "        optimizer.zero_grad()\n"),
    wrong("clears_encoder_alone", "clears the gradients of the encoder alone", (2, 5), "optimizer.zero_grad()", "encoder.zero_grad()"),
    wrong("steps_once_an_epoch", "steps with the gradient of the last batch of an epoch", (2, 5), STEP, "", MEAN, "        optimizer.step()\n" + MEAN),
    wrong("steps_twice", "steps twice with the same gradient", (2, 5), STEP, STEP + STEP),
    wrong("steps_with_the_batch_before", "steps with the gradient of the batch before", (2, 5), UPDATE, BACK, VIEWS, STEP + CLEAR + VIEWS),
    # modes
    wrong("mode_as_it_came", "trains in the mode in which the networks came", (3, 5), MODES, ""),
    wrong("eval_mode", "trains in eval mode", (3, 5), MODES, "    encoder.eval()\n    projector.eval()\n"),
    wrong("encoder_in_eval_mode", "trains with the encoder in eval mode", (3, 5), "encoder.train()", "encoder.eval()"),
    wrong("projector_as_it_came", "leaves the projector in the mode in which it came", (2, 5), "    projector.train()\n", ""),
    wrong("encoder_as_it_came", "leaves the encoder in the mode in which it came", (3, 5), "    encoder.train()\n", ""),
    wrong("norms_in_eval_mode", "freezes the statistics of the encoder's BatchNorm", (3, 5), MODES, MODES
          + "    for module in encoder.modules():\n        if isinstance(module, nn.modules.batchnorm._BatchNorm):\n            module.eval()\n"),
    wrong("root_alone_in_train_mode", "sets the top modules alone to train mode", (2, 5), MODES, "    encoder.training = projector.training = True\n"),
    wrong("eval_after_first_epoch", "stays in eval mode after the first epoch", (3, 5), MEAN, MEAN + "        encoder.eval()\n"),
    wrong("train_mode_if_needed", "looks at the top module alone to see whether train mode is on", (1, 3), MODES,
          "    for net in (encoder, projector):\n        if not net.training:\n            net.train()\n"),
    # arguments
    wrong("rate_fixed", "uses a learning rate of its own", (2, 4), "lr=lr", "lr=1e-3"),
    wrong("rate_as_decay", "passes the learning rate as weight decay", (2, 4), "lr=lr", "weight_decay=lr"),
    wrong("another_default_rate", "has another default of the learning rate", (1, 2), "lr=1e-3,", "lr=1e-2,"),
    wrong("another_default_of_epochs", "has another default of the number of epochs", (1, 2), "epochs=10", "epochs=5"),
    wrong("default_of_epochs_off_by_one", "has a default of 11 epochs", (1, 2), "epochs=10", "epochs=11"),
    wrong("another_default_temperature", "has another default of the temperature", (1, 2), "temperature=0.5", "temperature=0.1"),
    wrong("temperature_not_passed", "does not pass the temperature on", (2, 4), ", temperature)\n", ")\n"),
    wrong("temperature_fixed", "passes a temperature of its own", (2, 4), ", temperature)\n", ", 0.1)\n"),
    wrong("temperature_inverted", "passes the inverse of the temperature", (2, 4), ", temperature)\n", ", 1 / temperature)\n"),
    wrong("temperature_squared", "divides by the temperature twice", (2, 4), ", temperature)\n", ", temperature**2)\n"),
    wrong("rate_as_temperature", "passes the learning rate as the temperature", (2, 4), ", temperature)\n", ", lr)\n"),
    wrong("one_epoch_less", "trains one epoch less", (1, 5), "range(epochs)", "range(epochs - 1)"),
    wrong("one_epoch_more", "trains one epoch more", (1, 5), "range(epochs)", "range(epochs + 1)"),
    wrong("one_epoch_always", "trains one epoch, whatever is asked for", (2, 10), "range(epochs)", "range(1)"),
    wrong("accepts_no_epochs", "accepts any number of epochs", (1, 2), REFUSE, ""),
    wrong("accepts_zero_epochs", "accepts 0 epochs", (1, 2), "epochs < 1", "epochs < 0"),
    wrong("accepts_negative_epochs", "accepts negative numbers of epochs", (1, 2), "epochs < 1", "epochs == 0"),
    wrong("refuses_one_epoch", "refuses one epoch", (1, 2), "epochs < 1", "epochs <= 1"),
    wrong("prints_instead_of_raising", "prints a message for 0 epochs", (1, 2), 'raise ValueError("epochs must be at least 1")',
          'print("epochs must be at least 1")\n        return {"loss": []}'),
    wrong("another_error", "refuses 0 epochs with another error", (1, 2), "raise ValueError", "raise RuntimeError"),
    whole("catches_all_errors", "catches all errors", replaced(PLAIN["pretrain"], "def pretrain(", "def _pretrain(") + """

def pretrain(*arguments, **named):
    try:
        return _pretrain(*arguments, **named)
    except Exception as error:
        print(error)
        return {"loss": []}
""", (1, 4)),
    # side effects
    wrong("starts_from_scratch", "gives both networks new weights first", (1, 4), MODES, MODES
          + "    for net in (encoder, projector):\n        for module in net.modules():\n"
          "            if hasattr(module, 'reset_parameters'):\n                module.reset_parameters()\n"),
    wrong("projector_from_scratch", "gives the projector new weights first", (1, 4), MODES, MODES
          + "    for module in projector.children():\n        module.reset_parameters()\n"),
    wrong("gradients_switched_off", "leaves gradients switched off behind", (1, 3), "    return history", "    torch.set_grad_enabled(False)\n    return history"),
    wrong("dtype_changed", "changes the default dtype", (1, 3), "    return history", "    torch.set_default_dtype(torch.float64)\n    return history"),
    wrong("keeps_epoch_zero", "goes back to the weights of the start at the end", (8, 13), _EPOCH,
          "    start = copy.deepcopy(encoder.state_dict())\n" + _EPOCH, "    return history",
          "    encoder.load_state_dict(start)\n    return history"),
]  # fmt: skip
