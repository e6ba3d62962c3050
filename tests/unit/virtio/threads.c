/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads against the loop thread: nothing may deadlock or be lost, and a build with the
 * thread sanitizer finds no race in the core. */
#include <pthread.h>
#include "driver.h"
#include "test.h"
#include "virtio/rng.h"

enum { VCPUS = 3, ROUNDS = 20000 };

struct vcpus {
	struct rig rig;
	pthread_mutex_t bus;            /* stands for bus_lock */
	_Atomic unsigned n_running;
};

static void *vcpu(void *arg)
{
	struct vcpus *v = arg;
	struct bus_region *bell = &virtio_pci_dev(v->rig.d)->bar[2].region;
	static const unsigned regs[] = { R_STATUS, R_QSEL, R_QEN, R_QRESET, R_ISR, R_GEN, R_CFG };

	for (unsigned i = 0; i < ROUNDS; i++) {
		bell->write(bell->dev, 0, i % 2 * 4, 2, 0);
		pthread_mutex_lock(&v->bus);
		if (i % 100 == 99)
			rig_write(&v->rig, R_STATUS, 1, i % 200 == 199 ? 0 : 15);
		else
			rig_read(&v->rig, regs[i % 7], i % 7 == 0 || i % 7 >= 4 ? 1 : 2);
		pthread_mutex_unlock(&v->bus);
	}
	v->n_running--;
	return NULL;
}

TEST(vcpu_threads_and_the_loop_do_not_race)
{
	static struct vcpus v = { .bus = PTHREAD_MUTEX_INITIALIZER, .n_running = VCPUS };
	pthread_t t[VCPUS];
	uint32_t id, len;

	rig_init(&v.rig);
	CHECK_EQ(virtio_rng_new(&v.rig.d, &v.rig.env, NULL), 0);
	rig_up(&v.rig, 0, 8);
	for (unsigned i = 0; i < VCPUS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, vcpu, &v), 0);
	while (v.n_running) {
		loop_run_once(v.rig.loop, 1);
		virtio_pause(v.rig.d);
		virtio_in_flight(v.rig.d);
		virtio_resume(v.rig.d);
	}
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(t[i], NULL);
	rig_spin(&v.rig);
	rig_up(&v.rig, 0, 8);
	struct buf b = { rig_alloc(&v.rig, 64), 64, true };

	ring_add(&v.rig, 0, &b, 1);
	ring_kick(&v.rig, 0);
	CHECK(ring_used(&v.rig, 0, &id, &len));
	rig_down(&v.rig);
}
