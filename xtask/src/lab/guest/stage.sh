# Second program of the guest, on the host's root: kernel file systems, disks, then the command.
# busybox's shell runs its own applets, in memory: here that is wanted, for each program read over
# 9p costs an emulated 5.10 a third of a second. Not so for the command: the host's shell starts it.

. /run/lab/config
export PATH="$LAB_PATH" HOME=/root TERM="${LAB_TERM:-dumb}" LANG=C.UTF-8
bb=/run/lab/busybox

port() {
    for p in /sys/class/virtio-ports/*; do
        [ "$(cat "$p/name" 2>/dev/null)" = "$1" ] && echo "/dev/${p##*/}" && return
    done
}
status=$(port lab.status)

fail() {
    echo "lab: $*" >/dev/console
    echo "fail $*" >"$status"
    sleep 60
    $bb poweroff -f
}

# Waits up to 20 s for a path and prints it.
await() {
    n=0
    while [ $n -lt 200 ]; do
        for found in $1; do
            [ -e "$found" ] && echo "$found" && return
        done
        n=$((n + 1))
        $bb usleep 100000
    done
    return 1
}

mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount --bind "$LAB_MODULES" /lib/modules || fail "the kernel's modules cannot be mounted"
$bb ip link set lo up
$bb hostname "lab-$(echo "$LAB_KERNEL" | tr . -)"

# The modules of the disks were loaded from the initrd.
# The one with protection information: type 1, CRC, host and device both check.
disk=$(await '/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*:*/block/sd*') ||
    fail "scsi_debug shows no disk"
LAB_PI_DISK=/dev/${disk##*/}
await "$LAB_PI_DISK" >/dev/null || fail "no $LAB_PI_DISK"
# scsi_debug's WRITE SAME leaves its store of tags as it was, and later reads fail.
for f in /sys/class/scsi_disk/*/max_write_same_blocks; do
    echo 0 >"$f"
done

# The plain disk: memory behind a block device, no checksums anywhere.
[ -d /sys/kernel/config/nullb ] || mount -t configfs configfs /sys/kernel/config
plain=/sys/kernel/config/nullb/nullb0
mkdir $plain && echo "$LAB_PLAIN_MB" >$plain/size && echo 1 >$plain/memory_backed &&
    echo 1 >$plain/power || fail "null_blk makes no disk"
LAB_PLAIN_DISK=$(await /dev/nullb0) || fail "no /dev/nullb0"

# The NVMe disk with protection information, where one was attached.
LAB_NVME_PI=
if [ -n "$LAB_NVME_IMAGE" ]; then
    LAB_NVME_PI=$(await '/dev/nvme*n1') || fail "no NVMe disk appears"
fi

export LAB_KERNEL LAB_PI_DISK LAB_PLAIN_DISK
[ -n "$LAB_NVME_PI" ] && export LAB_NVME_PI LAB_NVME_IMAGE
[ -n "$STABLE_TRACE" ] && export STABLE_TRACE
env | grep -e ^LAB_ -e ^STABLE_TRACE= >/run/lab.env

cd "$LAB_DIRECTORY" 2>/dev/null || cd /

if [ -n "$LAB_INTERACTIVE" ]; then
    echo ready >"$status"
    shell=/bin/bash
    [ -x $shell ] || shell=/bin/sh
    # A terminal forgets its size when nobody has it open: the shell's own process sets it.
    setsid -c /bin/sh -c 'stty rows "$1" cols "$2" 2>/dev/null; exec "$3" -l' sh \
        "$LAB_ROWS" "$LAB_COLUMNS" $shell </dev/hvc0 >/dev/hvc0 2>&1
    code=$?
else
    # A port can be open once only, and programs open /dev/stdout again: give them pipes.
    mkfifo /run/lab/out /run/lab/err
    $bb cat </run/lab/out >"$(port lab.out)" &
    out=$!
    $bb cat </run/lab/err >"$(port lab.err)" &
    err=$!
    echo ready >"$status"
    setsid /bin/sh /run/lab/command </dev/null >/run/lab/out 2>/run/lab/err
    code=$?
    # What was printed has left when the relays end; a daemon left behind would keep them for ever.
    { $bb sleep 2; kill $out $err; } 2>/dev/null &
    wait $out $err
fi
cd /
umount /lab 2>/dev/null || sync
echo "exit $code" >"$status"
# The host ends the machine now: nothing here has to survive.
sleep 60
$bb poweroff -f
