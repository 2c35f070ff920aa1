#!/usr/bin/env bash
# A real Slurm of one node on this machine, to try the scripts beside this one with. Debian and Ubuntu:
#   apt-get install slurm-wlm munge
# It needs no root: all daemons run as whoever starts them, and everything they write is in DIR.
#   single_node.sh start DIR [CPUS]     then:  export SLURM_CONF=DIR/slurm.conf
#   single_node.sh stop DIR
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
action=$1 dir=$(realpath -m "$2")

stop() {
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$dir/$daemon.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

start() {
    local cpus=$1 host user
    host=$(hostname -s) user=$(id -un)
    mkdir -p "$dir/state" "$dir/spool"
    chmod 700 "$dir"
    [ -s "$dir/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$dir/munge.key")
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --seed-file="$dir/munge.seed" --log-file="$dir/munged.log" 2>/dev/null
    # Two ports that nobody listens on.
    read -r port1 port2 < <(python3 -c '
import socket
some = [socket.socket() for _ in range(2)]
[s.bind(("127.0.0.1", 0)) for s in some]
print(*(s.getsockname()[1] for s in some))')
    cat >"$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$port1
SlurmdPort=$port2
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,requeue_delay=1
SlurmdParameters=config_overrides
MailProg=/bin/true
ReturnToService=2
KillWait=5
MinJobAge=600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -f "$dir/slurm.conf" -c
    slurmd -f "$dir/slurm.conf"
    for _ in $(seq 150); do
        if sinfo -h -o %T 2>/dev/null | grep -q idle; then
            echo "export SLURM_CONF=$dir/slurm.conf"
            return
        fi
        sleep 0.2
    done
    echo "the node did not come up: see the logs in $dir" >&2
    sinfo >&2 || true
    stop
    return 1
}

case $action in
    start) start "${3:-$(nproc)}" ;;
    stop) stop ;;
    *) usage ;;
esac
