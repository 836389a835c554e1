# Second program of the guest, on the host's root: mounts kernel file systems, sets up the disks, and
# runs the command. busybox's shell runs its own applets in memory here, since loading a program over
# 9p takes an emulated 5.10 a third of a second. The host's shell runs the command.

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

# Waits up to 20 s for a path, and prints it.
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

# The initramfs has loaded the modules of the disks.
# The disk with protection information: type 1, CRC, checked by host and device.
disk=$(await '/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*:*/block/sd*') ||
    fail "scsi_debug has no disk"
LAB_PI_DISK=/dev/${disk##*/}
await "$LAB_PI_DISK" >/dev/null || fail "no $LAB_PI_DISK"
# scsi_debug's WRITE SAME does not update the stored tags, so that later reads fail.
for f in /sys/class/scsi_disk/*/max_write_same_blocks; do
    echo 0 >"$f"
done

# The disk without protection information: a RAM disk.
[ -d /sys/kernel/config/nullb ] || mount -t configfs configfs /sys/kernel/config
plain=/sys/kernel/config/nullb/nullb0
mkdir $plain && echo "$LAB_PLAIN_MB" >$plain/size && echo 1 >$plain/memory_backed &&
    echo 1 >$plain/power || fail "null_blk creates no disk"
LAB_PLAIN_DISK=$(await /dev/nullb0) || fail "no /dev/nullb0"

# The NVMe disk with protection information, if one is attached.
LAB_NVME_PI=
if [ -n "$LAB_NVME_IMAGE" ]; then
    LAB_NVME_PI=$(await '/dev/nvme*n1') || fail "no NVMe disk"
fi

export LAB_KERNEL LAB_PI_DISK LAB_PLAIN_DISK
[ -n "$LAB_NVME_PI" ] && export LAB_NVME_PI LAB_NVME_IMAGE LAB_NVME_PATHS_IMAGE
[ -n "$STABLE_TRACE" ] && export STABLE_TRACE
env | grep -e ^LAB_ -e ^STABLE_TRACE= >/run/lab.env

cd "$LAB_DIRECTORY" 2>/dev/null || cd /

if [ -n "$LAB_INTERACTIVE" ]; then
    echo ready >"$status"
    shell=/bin/bash
    [ -x $shell ] || shell=/bin/sh
    # The size of a terminal is lost when it is closed: the shell's process sets it.
    setsid -c /bin/sh -c 'stty rows "$1" cols "$2" 2>/dev/null; exec "$3" -l' sh \
        "$LAB_ROWS" "$LAB_COLUMNS" $shell </dev/hvc0 >/dev/hvc0 2>&1
    code=$?
else
    # A port can be opened only once, and some programs reopen /dev/stdout: use pipes.
    mkfifo /run/lab/out /run/lab/err
    $bb cat </run/lab/out >"$(port lab.out)" &
    out=$!
    $bb cat </run/lab/err >"$(port lab.err)" &
    err=$!
    echo ready >"$status"
    setsid /bin/sh /run/lab/command </dev/null >/run/lab/out 2>/run/lab/err
    code=$?
    # The output is complete when the relays end. They are killed after 2 s, since a daemon that still
    # runs would keep them.
    { $bb sleep 2; kill $out $err; } 2>/dev/null &
    wait $out $err
fi
cd /
umount /lab 2>/dev/null || sync
echo "exit $code" >"$status"
# The host kills QEMU now.
sleep 60
$bb poweroff -f
