# Direct writes that the SCSI debug disk fails, while the kernel measures the run time of programs.
# Arguments: writes of the first kind, of the second. Prints a line for each kind,
#     failures KIND COUNT {bpftool's list of programs before} {the same after}
# Of the first kind, evidence is taken of every failure; of the second, of 32 a second.
set -e
driver=/sys/bus/pseudo/drivers/scsi_debug
echo 1 >/proc/sys/kernel/bpf_stats_enabled
echo 1 >/proc/sys/kernel/printk

"$STABLE_TRACE" trace -q --format json >/run/stream &
agent=$!
until [ -s /run/stream ]; do
    kill -0 $agent
    sleep 0.05
done

write() {
    ! dd if=/dev/zero of="$LAB_PI_DISK" bs=4096 count=1 seek="$1" oflag=direct 2>/dev/null
}

measure() {
    before=$(bpftool --json prog show)
    count=0
    while [ $count -lt "$2" ]; do
        write $((count % 64))
        count=$((count + 1))
    done
    echo "failures $1 $2 $before $(bpftool --json prog show)"
}

echo 0x20 >$driver/opts
echo -1 >$driver/every_nth
measure evidence "$1"
measure burst "$2"
echo 0 >$driver/every_nth
echo 0 >$driver/opts
kill -TERM $agent
wait $agent
