// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Values of the kernel that status shows, from maps of a loaded datapath, and after they cannot be read any more. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { removePins } from '@tandem/datapath/datapath';
import { LoadedDatapath } from '@tandem/datapath/load';
import { insideNamespace } from '@tandem/testing/inside';
import { ownPrefix } from '@tandem/testing/namespace';
import { adminContext } from '../../test/admin-context.ts';
import { smallStore } from '../../test/small-store.ts';
import { KernelView } from './kernel-view.ts';
import { degradations, statusOf } from './status.ts';

const pinRoot = `/sys/fs/bpf/${ownPrefix}0`;
const bpf = fileURLToPath(new URL('../../../../bpf', import.meta.url));

function load(): LoadedDatapath {
  return LoadedDatapath.load({
    objectPath: `${bpf}/build/tandem.bpf.o`,
    pinRoot,
    sharedGid: 65_532,
    cgroupPath: null,
    devices: { trusted: [], podBridges: [], tunnelPorts: [] },
    config: {
      ...{ mark: 0x1000, port: 10_053, ownerUid: 65_532, netnsCookie: 0n, staleNs: 100_000_000 },
      ...{ fqdnIdleSeconds: 60, fqdnLiveSeconds: 1000, fqdnLiveIdleSeconds: 100 },
      ...{ connectsPerSecond: 1000, datagramsPerSecond: 10_000, nat64Prefixes: [] },
      ...{ quotaNamespace: 100, quotaSelector: 100 },
    },
  });
}

insideNamespace(import.meta, () => {
  before(() => {
    execFileSync('make', ['-s', 'all'], { cwd: bpf });
    removePins(pinRoot);
  });
  after(() => removePins(pinRoot));

  test('maps that cannot be read are left out and named, and the rest of the status is there', () => {
    using datapath = load();
    let nowNs = 1e15;
    const kernel = new KernelView(datapath, true, () => nowNs);
    // Without a getter that fails: this one has a kernel.
    const context = Object.create(adminContext(smallStore(16, 1 << 16)), {
      kernel: { value: kernel },
    }) as ReturnType<typeof adminContext>;
    const said = (): readonly string[] =>
      degradations(context).flatMap(({ code, message }) =>
        code === 'kernel-values-unreadable' ? [message] : [],
      );
    assert.deepEqual(said(), []);
    assert.ok(kernel.mapFill().some(({ name }) => name === 'endpoints'));
    assert.deepEqual(kernel.heavyEndpoints(), []);
    assert.equal(kernel.counters()['drop_no_match'], 0);
    datapath[Symbol.dispose]();
    nowNs += 1e12;
    const problems = said();
    for (const what of [
      /entries of endpoints/,
      /entries of policy/,
      /learned/,
      /ask much now/,
      /counters/,
    ])
      assert.ok(
        problems.some((each) => what.test(each)),
        String(what),
      );
    assert.deepEqual([kernel.mapFill(), kernel.heavyEndpoints()], [[], null]);
    assert.deepEqual(kernel.counters(), {});
    const { members, lanes, degraded } = statusOf(context);
    assert.equal(members?.length, 0);
    assert.equal(lanes?.queriesRefused, 0);
    assert.ok(degraded?.some(({ code }) => code === 'kernel-values-unreadable'));
  });
});
