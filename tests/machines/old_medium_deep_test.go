//go:build machines && deep

package machines

import (
	"slices"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/tests/lab"
)

// Scenario 7 of the main job: the medium is made, then a volume with xfs is
// added, then the backup. The old medium restores what the backup knows.
func TestRecoveryOldMedium(t *testing.T) {
	proven(t, "an old medium: a volume with xfs was added before the backup, and comes back (rule 15)")
	ctx, cancel := soon(t.Context(), 40*time.Minute)
	defer cancel()
	phase := phases(t)
	m := fixtureOf(ctx, t, server{name: "old-medium", layout: lab.BIOSLayout(), image: "/root/old.iso", prepare: `set -e
lifeboat mkrescue
mv /var/lib/lifeboat/output/*.iso /root/old.iso
lvcreate -q -y -Wn -L 400m -n added vg-data-a
mkfs.xfs -q -L added /dev/vg-data-a/added
mkdir /srv/added
echo '/dev/vg-data-a/added /srv/added xfs nodev 0 2' >>/etc/fstab
systemctl daemon-reload
mount /srv/added
echo later >/srv/added/file
`})
	phase("a server whose medium is older than its backup")
	res := comesBack(ctx, t, m, drill.Options{}, allowed)
	if !slices.Contains(res.System.Mounts, "/srv/added") {
		t.Errorf("the added volume is not mounted: %v", res.System.Mounts)
	}
}
