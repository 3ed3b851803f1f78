#!/bin/sh
# The tree's own rules. Prints `ok NAME` or `not ok NAME` with the lines that break it.
#   includes go one way: ir <- passes <- codegen <- frontend; runtime sees runtime/ only; of it the
#   compiler sees runtime/abi.h, and the commands, which run what they compile, all
#   every header compiles alone
#   the README's tables of layers and ops say what ir/layers.def and ir/ops.def say, its numbers are those of tests/bench/results
#   (tests/meta/tables.sh makes them)
#   every op has a shape rule, a gradient or none, a lowering, a reference and a golden
#   every folder and top-level file of the source has its line in the README
#   no path of one machine, no exit but in a main, no generated file
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
bad=0

# rule NAME FILE: the rule holds when FILE, the list of what breaks it, is empty
rule() {
    if [ -s "$2" ]; then
        echo "not ok $1"
        head -n 20 "$2"
        bad=1
    else
        echo "ok $1"
    fi
}

# may FROM TO...: files under FROM include only files under TO
may() {
    from=$1
    shift
    allowed=$(echo "$*" | sed 's/\./\\./g; s/ /|/g')
    find "$from" -name '*.[chly]' -o -name '*.def' | sort | xargs grep -nE '^ *# *include +"' | grep -vE "include +\"($allowed)" >"$tmp/$from"
    rule "includes of $from/" "$tmp/$from"
}
may ir ir/ runtime/abi.h
may passes passes/ ir/ runtime/abi.h
may codegen codegen/ passes/ ir/ runtime/abi.h
may frontend frontend/ codegen/ passes/ ir/ runtime/ parser.h lexer.h
may runtime runtime/

# In one call of the compiler, which stops at nothing: the errors name the headers.
find ir passes codegen frontend runtime -name '*.h' | sort >"$tmp/headers"
prefix=$(ls -d /usr/lib/llvm-*/include 2>/dev/null | sort -t- -k2 -n | tail -n 1)
while read -r header; do
    # frontend's generated parser.h is not a header of the tree; what includes it is compiled by the build
    grep -q '"parser.h"' "$header" && continue
    echo "$header"
done <"$tmp/headers" | xargs -P 2 -n 12 sh -c '
    prefix=$1; shift
    for header; do
        printf "#include \"%s\"\n" "$header" | ${CC:-cc} -std=gnu11 -D_GNU_SOURCE -DCNNC_VERSION=\"0\" -I. ${prefix:+-I$prefix} -Wall -Wextra -Wno-unused-function -fsyntax-only -x c - 2>&1 | grep -E "error|warning"
    done' sh "$prefix" >"$tmp/alone"
rule "every header compiles alone" "$tmp/alone"

# The README's tables, as made from the .def files and the results of tests/bench.
for table in layers ops numbers; do
    sh tests/meta/tables.sh $table >"$tmp/want"
    sed -n "/<!-- $table -->/,/<!-- end of $table -->/p" README.md | sed '1d;$d' >"$tmp/have"
    diff -u "$tmp/have" "$tmp/want" >"$tmp/diff"
    rule "the README's table of $table (tests/meta/tables.sh $table)" "$tmp/diff"
done

# Rows of ops.def: columns 7 to 10 are shape, grad, lower, ref. A name there is a function's, defined in its folder; grad_none
# and lower_none stand where an op has none. Goldens: PyTorch's numbers for one op a case, "op TEXT attributes...".
sed -n 's/^OP(\([^)]*\)).*/\1/p' ir/ops.def | tr -d ' ' >"$tmp/rows"
while IFS=, read -r id text n_in n_out flags attrs shape grad lower ref; do
    text=$(echo "$text" | tr -d '"')
    for pair in "$shape:passes" "$grad:passes" "$lower:codegen" "$ref:ir/ref"; do
        function=${pair%%:*} folder=${pair#*:}
        case $function in grad_none | lower_none | *_leaf) continue ;; esac
        grep -rqE "^[a-z].*[ *]$function\(" "$folder" --include='*.c' || echo "$text: no $function() in $folder/"
    done
    [ "$ref" = ref_leaf ] || grep -qE "^op $text( |$)" tests/golden/ops/*.txt || echo "$text: no golden in tests/golden/ops/"
done <"$tmp/rows" >"$tmp/functions"
[ "$(wc -l <"$tmp/rows")" -gt 50 ] || echo "the rows of ir/ops.def were not found" >>"$tmp/functions"
rule "every op has its functions and a golden" "$tmp/functions"

# What the README says of the folders.
for folder in $(git ls-files | sed -n 's,/[^/]*$,,p' | sort -u | grep -E '^(frontend|ir|passes|codegen|runtime|examples|tests)' | grep -vE '^(tests/(golden|diff|unit)|examples/data)/'); do
    grep -q "$folder/" README.md || echo "$folder/"
done >"$tmp/folders"
rule "every folder has its line in the README" "$tmp/folders"

git ls-files | grep -vE '\.(npy|pt|safetensors|gz|png|jpe?g|pgm|bin|zip)$' >"$tmp/files"
xargs grep -nIE '(^|[^A-Za-z0-9_.])/(work|home|root|farm|opt|Users)/' <"$tmp/files" | grep -v '^tests/meta/run.sh:' >"$tmp/paths"
rule "no path of one machine" "$tmp/paths"

grep -nE '(^|[^A-Za-z0-9_])_?exit *\(' $(git ls-files 'ir/*.c' 'passes/*.c' 'codegen/*.c' 'frontend/*.c' 'runtime/*.c' '*.l' '*.y') /dev/null |
    grep -vE '^[^:]*main\.c:|/\*.*exit *\(|^[^:]*:[0-9]*: *\*' >"$tmp/exits"
rule "exit only in a main" "$tmp/exits"

git ls-files | grep -E '(^|/)(lex\.yy|parser\.tab|.*\.o|.*\.a|build/)' >"$tmp/generated"
rule "no generated file" "$tmp/generated"
[ $bad = 0 ]
