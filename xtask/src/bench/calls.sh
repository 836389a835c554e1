# Rewrites one page of a cached file repeatedly, with nothing under writeback, for each attach method.
# Arguments: rounds, duration of one run. Prints a line for each run,
#     run METHOD STABLE {last line of wac}
# and then, with the kernel's run-time statistics of BPF programs, a line for each method:
#     programs METHOD {last line of wac} {bpftool's list of programs}
set -e
rounds=$1
duration=$2
# No periodic writeback during the measurement.
echo 0 >/proc/sys/vm/dirty_writeback_centisecs

# Two equal file systems; the second one requires stable pages, so that the kernel calls the wait
# function before it changes a page.
for stable in 0 1; do
    image=/dev/shm/$stable.img
    truncate -s 64M $image
    device=$(losetup --find --show $image)
    echo $stable >/sys/block/${device#/dev/}/queue/stable_writes
    mkfs.ext4 -q -E nodiscard "$device"
    mkdir -p /run/calls/$stable
    mount -t ext4 "$device" /run/calls/$stable
done
sync

rewrite() {
    "$STABLE_TRACE" wac --no-trace -q --format=json --profile a --threads 1 --sync none \
        --file-size 4KiB --io-size 512 --duration "$duration" --path "/run/calls/$1" | tail -n 1
}

trace() {
    agent=
    [ "$1" = none ] && return
    rm -f /run/calls/stream
    "$STABLE_TRACE" trace -q --format json --attach "$1" >/run/calls/stream &
    agent=$!
    until [ -s /run/calls/stream ]; do
        kill -0 $agent
        sleep 0.05
    done
}

stop() {
    [ -z "$agent" ] && return
    kill -TERM $agent
    wait $agent
}

methods="none fentry kprobe tracepoint"
rewrite 1 >/dev/null
round=0
while [ $round -lt "$rounds" ]; do
    for method in $methods; do
        trace $method
        for stable in 0 1; do
            echo "run $method $stable $(rewrite $stable)"
        done
        stop
    done
    round=$((round + 1))
    echo "xtask: round $round of $rounds" >&2
    # Rotate the order.
    methods="${methods#* } ${methods%% *}"
done

command -v bpftool >/dev/null || exit 0
echo 1 >/proc/sys/kernel/bpf_stats_enabled
for method in fentry kprobe tracepoint; do
    trace $method
    result=$(rewrite 1)
    echo "programs $method $result $(bpftool --json prog show)"
    stop
done
