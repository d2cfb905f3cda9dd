// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** kubectl and helm against the cluster, as its administrator. */

import { execFileSync } from 'node:child_process';
import { programPath } from './go-programs.ts';
import { pki } from './pki.ts';
import { controlPlaneNamespace } from './processes.ts';

/** How a user runs kubectl against the cluster. */
export function kubectlCommand(): string {
  return `nsenter --net=/run/netns/${controlPlaneNamespace} ${programPath('kubectl')} --kubeconfig ${pki('admin.conf')}`;
}

/** Gives what it printed. @throws Error with what it said on stderr */
export function kubectl(...args: readonly string[]): string {
  return run('kubectl', args);
}

export function kubectlApply(objects: readonly object[] | string): string {
  const input =
    typeof objects === 'string'
      ? objects
      : objects.map((object) => JSON.stringify(object)).join('\n---\n');
  return run('kubectl', ['apply', '--server-side', '--force-conflicts', '-f', '-'], input);
}

export function helm(...args: readonly string[]): string {
  return run('helm', args);
}

function run(program: string, args: readonly string[], input?: string): string {
  return execFileSync(
    'nsenter',
    [
      `--net=/run/netns/${controlPlaneNamespace}`,
      ...[programPath(program), '--kubeconfig', pki('admin.conf'), ...args],
    ],
    { encoding: 'utf8', input: input ?? '', stdio: 'pipe', maxBuffer: 64 << 20, timeout: 180_000 },
  );
}
