"""Pretraining of the course's backbones: ``python -m amllab.pretrain net12``, or ``--self-supervised`` for ``net5``.

A checkpoint is written after every epoch; after an interruption, the same command resumes from it and ends with the
same weights. At the end, the weights (fp16 safetensors) and a model card with measured accuracies are written to one
folder. ``python -m amllab.pretrain --reptiles`` fine-tunes a pretrained ``net12``, in a minute or two and without
checkpoints.
"""
