#!/bin/sh
# Prints the README's table of layers or ops from ir/layers.def or ir/ops.def, or its numbers from tests/bench/results/.
#   tests/meta/tables.sh layers|ops|numbers      tests/meta/tables.sh -u   puts all of them into the README
cd "$(dirname "$0")/../.." || exit 2

# The preprocessor expands the argument macros of layers.def; awk writes the rows.
layers() {
    printf '%s\n' '#define LAYER(name, state, build, nd, ...) @ROW name @state ~__VA_ARGS__ @END' \
        '#define ARG(name, kind, value) @@name@value' '#define KEY(name, kind, value) @@name@value@key' '#include "ir/layers.def"' |
        ${CC:-cc} -E -P -I. -x c - | tr -d '\n' | sed 's/@END/\n/g' | sed 's/^ *//' | awk '
        function clean(s) { gsub(/^[ ]*"?|"?[ ,]*$/, "", s); return s }
        BEGIN { print "| layer | arguments |"; print "|---|---|" }
        /^@ROW/ {
            tilde = index($0, "~"); split(substr($0, 1, tilde - 1), head, "@")
            name = clean(substr(head[2], 4)); state = clean(head[3])
            if (state == "LATER") { later = later (later == "" ? "" : ", ") name; next }
            list = ""; keyword = 0
            n = split(substr($0, tilde + 1), part, "@@")     # part[1] is what stands before the first argument: nothing
            for (i = state == "LAZY" ? 3 : 2; i <= n; i++) {   # what a lazy layer infers, it does not take
                m = split(part[i], f, "@"); value = clean(f[2])
                if (m == 3 && !keyword) { list = list (list == "" ? "" : ", ") "*"; keyword = 1 }
                list = list (list == "" ? "" : ", ") clean(f[1]) (value == "NULL" ? "" : "=" value)
            }
            print "| " name " | " (list == "" ? "" : "`" list "`") " |"
        }
        END { print "| not yet | " later " |" }'
}

# What an op computes is the first sentence of its comment.
ops() {
    awk '
        BEGIN { print "| op | inputs, outputs | gradient | what it computes |"; print "|---|---|---|---|" }
        /^OP\(/ {
            at = index($0, ")"); row = substr($0, 4, at - 4)
            comment = substr($0, at + 1); sub(/^ *\/\* */, "", comment); sub(/ *\*\/ *$/, "", comment)
            n = split(row, f, ","); for (i = 1; i <= n; i++) gsub(/^ +| +$/, "", f[i])
            text = f[2]; gsub(/"/, "", text)
            short = comment; depth = 0
            for (i = 1; i < length(comment); i++) {          # up to the first "; " or ". " outside brackets
                c = substr(comment, i, 1)
                if (index("([{", c)) depth++
                if (index(")]}", c)) depth--
                if (depth == 0 && substr(comment, i - 1, 1) != "." && (c == ";" || c == ".") && substr(comment, i + 1, 1) == " ") { short = substr(comment, 1, i - 1); break }
            }
            gsub(/\|/, "\\|", short)
            print "| " text " | " (f[3] < 0 ? "any" : f[3]) ", " f[4] " | " (f[8] == "grad_none" ? "" : "yes") " | `" short "` |"
        }' ir/ops.def
}

# Of the CPUs that were measured, the one whose numbers the README shows.
shown=amd-epyc-family-25
numbers() { cat "tests/bench/results/$shown.md" "tests/bench/results/$shown.memory.md"; }

case ${1:-} in
layers | ops | numbers) $1 ;;
-u)
    for table in layers ops numbers; do
        $table >README.md.table
        awk -v table=$table '
            $0 == "<!-- " table " -->" { print; while ((getline line < "README.md.table") > 0) print line; skip = 1 }
            $0 == "<!-- end of " table " -->" { skip = 0 }
            !skip { print }' README.md >README.md.new && mv README.md.new README.md
        rm -f README.md.table
    done
    ;;
*) echo "usage: tests/meta/tables.sh layers|ops|numbers|-u" >&2; exit 2 ;;
esac
