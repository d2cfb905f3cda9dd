// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '@tandem/runtime/config';
import { silentLogger } from '@tandem/runtime/log';
import { insideNamespace } from '@tandem/testing/inside';
import { agentConfigSpec } from './config.ts';
import { ArpGuard } from './node/arp-guard.ts';
import { NodeDatapath } from './node-datapath.ts';

const tables = (): string => execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' });

insideNamespace(import.meta, () => {
  /** As of a former start: its `from_pod` is in force no more, or sets another bit. */
  const guardAsBefore = async (): Promise<void> => {
    const guard = new ArpGuard(0x40);
    guard.set({ podBridges: ['cni0'], trustedPorts: [{ name: 'lo', ifindex: 1 }] });
    await guard.ensure();
    assert.match(tables(), /table arp tandem/);
  };
  const datapath = (): NodeDatapath => {
    const result = loadConfig(agentConfigSpec, {
      argv: [
        ...['--source', 'kubernetes', '--node-name', 'one', '--mark', '0x1000'],
        ...['--bpffs-dir', '/absent/tandem', '--bpf-object', '/absent/tandem.bpf.o'],
      ],
      env: {},
      readFile: () => {
        throw new Error('no file is named');
      },
    });
    assert.ok(result.kind === 'config', JSON.stringify(result));
    return new NodeDatapath(result.config, silentLogger());
  };

  test('a start with another mark that fails leaves no table that tests the former bit', async () => {
    await guardAsBefore();
    const node = datapath();
    await assert.rejects(node.load(), /absent/);
    assert.doesNotMatch(tables(), /tandem/);
    await node.stop();
    node.close();
  });

  test('removal takes the tables of ARP away, also if the network was never read', async () => {
    await guardAsBefore();
    await datapath().remove();
    assert.doesNotMatch(tables(), /tandem/);
  });

  test('removal deletes the tables of ARP although nft fails once', async () => {
    await guardAsBefore();
    const directory = mkdtempSync(join(tmpdir(), 'tandem-nft-'));
    const path = process.env['PATH'] ?? '';
    const found = execFileSync('sh', ['-c', 'command -v nft'], { encoding: 'utf8' }).trim();
    const once = join(directory, 'failed');
    writeFileSync(
      join(directory, 'nft'),
      `#!/bin/sh\nif [ ! -e ${once} ]; then touch ${once}; exit 1; fi\nexec ${found} "$@"\n`,
      { mode: 0o755 },
    );
    process.env['PATH'] = `${directory}:${path}`;
    try {
      await datapath().remove();
      assert.ok(existsSync(once));
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
    assert.doesNotMatch(tables(), /tandem/);
  });
});
