# SPDX-License-Identifier: Apache-2.0
"""A guest that is told words and asked for the last: what its memory holds and what its disk (vda) holds."""

# Keeps the last word in its memory and on its disk, and tells both; "boots" comes once per boot.
WORDS_INIT = """
echo "boots"
word=nothing
while read -r next; do
    case $next in
        off) poweroff -f ;;
        tell*)
            echo 3 >/proc/sys/vm/drop_caches
            echo "$next: memory $word disk $(dd if=/dev/vda bs=16 count=1 2>/dev/null | tr -d ' \\0')" ;;
        *)
            word=$next
            printf '%-16s' "$word" | dd of=/dev/vda bs=16 conv=notrunc,fsync 2>/dev/null
            echo "written $word" ;;
    esac
done
"""
