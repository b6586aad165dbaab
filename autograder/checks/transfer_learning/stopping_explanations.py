"""Explanations of wrong rules of early stopping, by symptom."""

from autograder.checks.transfer_learning.stopping_parameters import DIGITS, GRACE, LEAST, STARTS, WINDOWS

# symptom of a rule or a choice -> its explanation, to follow what was seen
SAYS = {
    "max_epochs ignored": "`max_epochs` is ignored",
    "max_epochs ignored: 30": "there are 30 epochs whatever `max_epochs` is",
    "count never reset": "the epochs without improvement are counted over the whole training, not in a row",
    "1 epoch late": "training stops one epoch too late",
    "1 epoch early": "training stops one epoch too early",
    "never stopped": "training does not stop before max_epochs",
    "stopped at the first epoch without improvement": "training stops at the first epoch without improvement",
    "compared with the epoch before": "each epoch is compared with the one before it, not with the best one so far",
    "min_delta ignored": "`min_delta` is ignored",
    "equal losses improve": "a loss that equals the best one counts as an improvement",
    "min_delta with the wrong sign": "`min_delta` is added to the best loss, where it has to be subtracted",
    "min_delta relative to the best": "`min_delta` is used as a fraction of the best loss: `best * (1 - min_delta)`",
    "best loss moves without improvement": "the best loss is replaced by one that is lower by less than min_delta",
    "improvements count against patience": "once `patience` epochs have been run in all, the first one without improvement ends "
    "training: is the epoch's number compared with `patience`?",
    **{
        f"losses rounded to {digits} digits": f"as if losses were rounded to {digits} digits before they are compared"
        for digits in DIGITS
    },
    **{
        f"improvements below {least:g} do not count": f"improvements below some {least:g} do not count, though min_delta is 0"
        for least in LEAST
    },
    "every epoch improves": "every epoch counts as an improvement, whatever its loss. Is the best loss replaced at each improvement?",
    "higher losses improve": "a higher loss counts as an improvement. Is it `val_loss < best`?",
    **{
        f"default of min_delta: {least:g}": f"`min_delta` is some {least:g} where it is not passed: its default is 0"
        for least in LEAST
    },
    **{
        f"means of {n} losses compared": "as if a mean of the last losses were compared, and not the epoch's own"
        for n in WINDOWS
    },
    "NaN improves": "a loss that is NaN counts as an improvement",
    "NaN improves, and is forgotten": "a loss that is NaN counts as an improvement",
    "NaN does not count": "epochs whose loss is NaN do not use up patience",
    "NaN as first best": "the first loss is taken for the best one though it is NaN: no later loss is below it",
    "best_epoch: counted from 1": "`best_epoch` is counted from 1",
    "best_epoch: lowest loss": "`best_epoch` is the epoch of the lowest loss, even where that was no improvement",
    "best_epoch: NaN as lowest loss": "a loss that is NaN is taken for the lowest one",
    "best_epoch: lowest loss, by min": "`min` of losses that begin with NaN is NaN",
    **{
        f"best loss starts from {start}": f"only a loss below a number such as {start} counts as an improvement. "
        "Does the best loss start from that number, and not from `math.inf`?"
        for start in STARTS
    },
    **{
        f"patience begins after {grace} epochs": f"the first {grace} epochs use up no patience"
        if grace > 1
        else "the first epoch uses up no patience"
        for grace in GRACE
    },
}


# symptom -> why the rule is wrong, if another reason fits better than that of the check
WHY = {
    **dict.fromkeys(
        [
            *(f"losses rounded to {digits} digits" for digits in DIGITS),
            *(f"improvements below {least:g} do not count" for least in LEAST),
        ],
        "where min_delta is 0, the smallest step below the best loss is an improvement",
    ),
    "improvements count against patience": "patience counts epochs in a row without improvement",
    "NaN does not count": "a comparison with NaN is false: raise the count in the `else` of the improvement, not after a second comparison",
    "NaN improves": "every comparison with NaN is false, so that `not loss >= best` is true: compare with `<`",
    "equal losses improve": "an equal loss is not below the best one: improvement is `<`, not `<=`",
    "best_epoch: lowest loss": "the best epoch is the last one that was an improvement, and its weights are the result",
    "best_epoch: NaN as lowest loss": "`min` and `argmin` of losses with a NaN among them may give the NaN: the best epoch is the "
    "last one that was an improvement",
    **dict.fromkeys(
        [f"best loss starts from {start}" for start in STARTS],
        "the first epoch whose loss is a number improves, however high that is",
    ),
    **dict.fromkeys(
        [f"patience begins after {grace} epochs" for grace in GRACE],
        "patience counts every epoch without improvement, the first ones too",
    ),
}
