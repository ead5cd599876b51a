#!/usr/bin/env bash
# A real Slurm with one node on loopback, in a scratch folder: for tests of the Slurm path of sweeps.
#
#   one_node_slurm.sh start FOLDER     starts munged, slurmctld and slurmd; then: export PATH=FOLDER/bin:$PATH
#   one_node_slurm.sh stop FOLDER      ends what `start` started
#
# Needs root (slurmd refuses otherwise) and Debian's packages: apt-get install slurm-wlm munge
# Nothing outside FOLDER is written: own munge key and socket, own ports, no systemd, no cgroup, no accounting.
set -euo pipefail
action=${1:?start or stop} folder=${2:?a scratch folder}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

stop() {
    for daemon in slurmd slurmctld munged; do
        [ -s "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
    done
}

start() {
    mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
    folder=$(cd "$folder" && pwd)
    chmod 755 "$folder" "$folder/munge"
    local name
    name=$(hostname -s)
    head -c 1024 /dev/urandom > "$folder/munge/key"
    chmod 400 "$folder/munge/key"
    # --force: munged would otherwise insist on owners and modes of the scratch folder's parents.
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge/seed" \
        2> "$folder/munged.err"
    cat > "$folder/slurm.conf" <<CONF
ClusterName=onenode
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=1
ReturnToService=2
# squeue is asked for the state of finished jobs: there is no accounting data base here.
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN ${ONE_NODE_GRES:+Gres=$ONE_NODE_GRES}
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE State=UP
CONF
    # A device file that every machine has stands in for GPUs, so that --gpus requests are scheduled for real.
    echo "${ONE_NODE_GRES:+Name=gpu Type=fake File=/dev/null}" > "$folder/gres.conf"
    # Snakemake's Slurm executor drops SLURM_* from the environment, and Slurm then looks in /etc/slurm only. On a real
    # cluster the file is there; here each command is told where it is.
    mkdir -p "$folder/bin"
    local command
    for command in sbatch srun squeue scancel scontrol sinfo; do
        printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$folder/slurm.conf" "$(command -v "$command")" \
            > "$folder/bin/$command"
        chmod +x "$folder/bin/$command"
    done
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld -c 2> "$folder/slurmctld.err"
    slurmd -N "$name" 2> "$folder/slurmd.err"
    for _ in $(seq 60); do
        if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then
            return 0
        fi
        sleep 0.5
    done
    echo "one-node Slurm did not become idle: $(tail -n 3 "$folder/slurmctld.log" "$folder/slurmd.log")" >&2
    return 1
}

case $action in
    start) trap 'stop' ERR; start ;;
    stop) stop ;;
    *) echo "start or stop, not '$action'" >&2; exit 2 ;;
esac
