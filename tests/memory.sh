#!/bin/sh
# Memory of training, from outside: the report's figure is what a trainer really uses, with and without --recompute; and --recompute
# gives the same losses and weights, bit for bit, in less.
# Usage: tests/memory.sh CNNC
case $1 in /*) cnnc=$1 ;; *) cnnc=$PWD/$1 ;; esac
examples=$(cd "$(dirname "$0")/../examples" && pwd) || exit 1
. "$(dirname "$0")/checks.sh"
cd "$tmp" || exit 1

# net NAME BATCH LAYERS: NAME.cnn, trained on digits
net() {
    cat >"$1.cnn" <<END
input(1, 28, 28)
$3
Flatten, Linear(_, 10)
train {
    data = MNIST("$examples/data")
    epochs = 1
    batch_size = $2
    optimizer = SGD(lr=0.05, momentum=0.9)
    seed = 3
}
END
}
net plain 50 'repeat 3 { Conv2d(_, 8, 3, padding=1), ReLU, Conv2d(_, 8, 3, padding=1), ReLU, MaxPool2d(2) }'
net norms 64 'repeat 2 { repeat 3 { Conv2d(_, 16, 3, padding=1, bias=False), BatchNorm2d, ReLU }
MaxPool2d(2, stride=2), Dropout2d(0.2) }'
net blocks 8 'Conv2d(_, 16, 3, padding=1), BatchNorm2d, ReLU
repeat 4 { residual { Conv2d(_, 16, 3, padding=1, bias=False), BatchNorm2d, ReLU, Dropout(0.1), Conv2d(_, 16, 3, padding=1, bias=False), BatchNorm2d }
ReLU }
MaxPool2d(2)'
net joined 33 'concat { branch { Conv2d(_, 6, 3, padding=1), GELU } branch { Conv2d(_, 4, 5, padding=2), SiLU } }
concat { branch { Conv2d(_, 6, 1), Tanh } branch { MaxPool2d(3, stride=1, padding=1) } }
AvgPool2d(2), Conv2d(_, 6, 3), PReLU, AdaptiveMaxPool2d(4), Flatten, Dropout(0.3), Linear(_, 20), ReLU'

# ---- the same numbers; running statistics move once, masks are the same ----
for n in plain norms blocks joined; do
    check "$n" "$cnnc" train $n.cnn -q --steps 12 -o $n.a.safetensors --log a.jsonl
    check "$n, values made again" "$cnnc" train $n.cnn -q --recompute --steps 12 -o $n.b.safetensors --log b.jsonl
    check "the same weights and statistics" cmp $n.a.safetensors $n.b.safetensors
    grep step a.jsonl >a.steps
    grep step b.jsonl >b.steps
    check "the same losses" cmp a.steps b.steps
    rm a.jsonl b.jsonl   # a log would be gone on with
done
check "a trainer that makes values again" "$cnnc" build norms.cnn --trainer --recompute -o again
check "trains" ./again -q --steps 12 -o t.safetensors
check "as without it" "$cnnc" train norms.cnn -q --steps 12 -o u.safetensors
check "to the same weights" cmp t.safetensors u.safetensors

# ---- the report's figure ----
# planned NAME OPTION...: bytes of training as the report says
planned() {
    name=$1
    shift
    "$cnnc" report "$name" -q "$@" | awk '/^  training/ { m = $3 == "KiB" ? 1024 : $3 == "MiB" ? 1048576 : $3 == "GiB" ? 1073741824 : 1; printf "%d\n", $2 * m }'
}
# used PROGRAM: bytes that it held at most while it timed training steps
used() {
    ./"$1" --bench --threads 1 >bench.log 2>&1 &
    pid=$!
    peak=0
    while line=$(grep VmHWM /proc/$pid/status 2>/dev/null) && [ -n "$line" ]; do
        set -- $line
        peak=$2
        sleep 0.05
    done
    wait $pid
    echo $((peak * 1024))
}
# within PLANNED USED: no more than is planned, the code and the data; and the plan is no fancy
within() { echo "planned $1, used $2"; [ "$2" -le $(($1 + $1 / 20 + 24000000)) ] && [ "$2" -ge $(($1 - $1 / 5)) ]; }

net wide 256 'Conv2d(_, 16, 3, padding=1, bias=False)
repeat 8 { Conv2d(_, 32, 3, padding=1, bias=False), BatchNorm2d, ReLU }'
all=$(planned wide.cnn --batch 256)
less=$(planned wide.cnn --batch 256 --recompute)
check "takes less" test "$less" -le $((all * 4 / 5))   # all: without the values that follow point by point from others
check "a trainer" "$cnnc" build wide.cnn --trainer -o wide
check "takes what the report says" within "$all" "$(used wide)"
check "a trainer that makes values again" "$cnnc" build wide.cnn --trainer --recompute -o wide
check "takes what the report says" within "$less" "$(used wide)"
exit $bad
