#!/usr/bin/env bash
# Spreads the interrupts of one network card over all cores, one queue a core.
# Usage: irq-affinity.sh eth0        (as root; stop irqbalance first, or it moves them back)
set -euo pipefail
card=${1:?usage: irq-affinity.sh CARD}
cores=$(nproc)
core=0
for irq in "/sys/class/net/$card/device/msi_irqs/"*; do
    [ -e "$irq" ] || { echo "$card has no interrupts of its own" >&2; exit 1; }
    number=$(basename "$irq")
    # Some interrupts are managed by the kernel and refuse; they are spread already.
    if echo "$core" >"/proc/irq/$number/smp_affinity_list" 2>/dev/null; then
        echo "irq $number -> cpu $core"
        core=$(((core + 1) % cores))
    fi
done
