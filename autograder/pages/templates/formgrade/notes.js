// Points by question: their sum becomes the score of the cell, and a line "Points: ..." at the top of its comment keeps
// them, where the student reads them, and this page finds them again. Comments on other submissions: added by a click.
$(window).on("load", function () {
    var LINE = /^Points: [^\n]*\n*/m;

    function noteOf(element) {
        var notes = $(element).closest(".grader-notes"), cell = notes.data("cell");
        return {
            parts: notes.find("input[data-part]"),
            score: $(document.getElementById(cell)),
            comment: $(document.getElementById(cell + "-comment"))
        };
    }

    function lineOf(parts) {
        var given = parts.filter(function () { return this.value !== ""; });
        return given.map(function () { return this.dataset.part + ": " + this.value + " of " + this.max; }).get().join("; ");
    }

    function write(comment, text) {
        comment.val(text).trigger("change");
        autosize.update(comment.get());
    }

    $(".grader-notes input[data-part]").on("change", function () {
        var most = Number(this.max);
        if (this.value !== "") { this.value = Math.min(Math.max(Number(this.value) || 0, 0), most); }
        var note = noteOf(this), line = lineOf(note.parts), rest = note.comment.val().replace(LINE, "");
        var complete = note.parts.toArray().every(function (part) { return part.value !== ""; });
        write(note.comment, (line ? "Points: " + line + "\n\n" : "") + rest);
        if (complete) {
            var sum = note.parts.toArray().reduce(function (total, part) { return total + Number(part.value); }, 0);
            note.score.val(sum).trigger("change");
        }
    });

    $(".grader-notes .add-comment").on("click", function () {
        var comment = noteOf(this).comment, before = comment.val().replace(/\s+$/, "");
        write(comment, (before ? before + "\n\n" : "") + this.textContent);
        comment.trigger("focus");
    });

    // comments arrive after the page: fill in the points of the parts as soon as they are there
    $(document).ajaxComplete(function () {
        $(".grader-notes").each(function () {
            var note = noteOf(this.firstElementChild), line = (note.comment.val() || "").match(LINE);
            if (!line) { return; }
            note.parts.each(function () {
                var part = this, at = line[0].indexOf(part.dataset.part + ": ");
                var found = at < 0 ? null : line[0].slice(at + part.dataset.part.length + 2).match(/^[\d.]+/);
                if (found && part.value === "") { part.value = found[0]; }
            });
        });
    });
});
