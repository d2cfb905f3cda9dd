// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Pins and the network namespace of a process must belong together. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { netnsCookie } from '@tandem/bpf-loader-node/netns';
import { insideNamespace } from '@tandem/testing/inside';
import { ownPrefix } from '@tandem/testing/namespace';
import { removePins } from './datapath.ts';
import { OtherDatapathError } from './hook-taken.ts';
import { LoadedDatapath } from './load.ts';
import { refuseOtherDatapath } from './other-datapath.ts';
import { pinPaths } from './paths.ts';
import { makeDirectories } from './pins.ts';

const bpf = fileURLToPath(new URL('../../../bpf', import.meta.url));
const pinRoot = `/sys/fs/bpf/${ownPrefix}0`;
const otherRoot = `/sys/fs/bpf/${ownPrefix}1`;

function load(): LoadedDatapath {
  return LoadedDatapath.load({
    objectPath: `${bpf}/build/tandem.bpf.o`,
    pinRoot,
    sharedGid: 0,
    cgroupPath: null,
    devices: { trusted: [], podBridges: [], tunnelPorts: [] },
    config: {
      ...{ mark: 0x1000, port: 10_053, ownerUid: 0, netnsCookie: netnsCookie(), staleNs: 1e8 },
      ...{ fqdnIdleSeconds: 60, fqdnLiveSeconds: 0, fqdnLiveIdleSeconds: 60 },
      ...{
        connectsPerSecond: 1000,
        datagramsPerSecond: 10_000,
        nat64Prefixes: [],
        quotaNamespace: 1000,
        quotaSelector: 1000,
      },
    },
  });
}

/** Answer of a process in a network namespace of its own about the same pins. */
function elsewhere(): string {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const script = `
    import { Datapath } from ${url('datapath.ts')};
    import { refuseOtherDatapath } from ${url('other-datapath.ts')};
    using datapath = Datapath.open(${JSON.stringify(pinRoot)});
    console.log('judging', datapath.isJudging());
    await refuseOtherDatapath(${JSON.stringify(pinRoot)}).catch(({ message }) => console.log(message));
  `;
  const node = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const args = ['--net', process.execPath, ...node, '--input-type=module', '-e', script];
  return execFileSync('unshare', args, { encoding: 'utf8' });
}

insideNamespace(import.meta, () => {
  before(() => execFileSync('make', ['-s', 'all'], { cwd: bpf }));
  after(() => {
    removePins(pinRoot);
    removePins(otherRoot);
  });

  test('on a fresh node, and over pins of its own, an agent may start', async () => {
    await refuseOtherDatapath(pinRoot);
    {
      using datapath = load();
      await refuseOtherDatapath(pinRoot);
      datapath.ensureJudging();
    }
    await refuseOtherDatapath(pinRoot);
  });

  test('where the programs of another directory are attached it may not', async () => {
    makeDirectories(pinPaths(otherRoot));
    await assert.rejects(refuseOtherDatapath(otherRoot), OtherDatapathError);
  });

  test('over pins of another network namespace it may not, though they look attached', () => {
    const said = elsewhere();
    assert.match(said, /^judging true$/m, 'what an agent would go by');
    assert.match(said, /attached in another network namespace and not in this one/);
  });
});
