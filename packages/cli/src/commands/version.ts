// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem version`: of this program, and of the processes of the node that answer. */

import { TD_ABI_VERSION } from '@tandem/datapath/abi.gen';
import { version } from '@tandem/dns-proxy/version';
import { askStatus, processNames } from '../admin/connection.ts';
import type { CliCommand } from '../command.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { printTable } from '../output/table.ts';

/** One element of `programs` in the JSON; null: not known. */
interface ProgramVersion {
  readonly program: 'tandem' | 'agent' | 'dns-proxy';
  readonly version: string | null;
  readonly commit: string | null;
  readonly abiVersion: number | null;
  readonly nodeVersion: string | null;
  readonly kernelRelease: string | null;
}

export const versionCommand: CliCommand = {
  name: 'version',
  summary: 'show the versions of this program and of the processes that answer',
  run: async ({ settings, out, wantsJson, signal }): Promise<ExitCode> => {
    const own: ProgramVersion = {
      program: 'tandem',
      version,
      commit: null,
      abiVersion: TD_ABI_VERSION,
      nodeVersion: process.version,
      kernelRelease: null,
    };
    const answers = await Promise.all(
      processNames.map((name) => askStatus(name, settings, signal)),
    );
    const others = answers.map((answer): ProgramVersion => {
      const info = answer.ok ? answer.status.version : null;
      return {
        program: answer.process,
        version: info?.version || null,
        commit: info?.commit || null,
        abiVersion: info?.abiVersion ?? null,
        nodeVersion: info?.nodeVersion || null,
        kernelRelease: info?.kernelRelease || null,
      };
    });
    const programs = [own, ...others];
    if (wantsJson) {
      out.json({ programs });
      return exitCode.ok;
    }
    printTable(
      out,
      ['PROGRAM', 'VERSION', 'COMMIT', 'ABI', 'NODE', 'KERNEL'].map((title) => ({ title })),
      programs.map((entry) => [
        entry.program,
        entry.version ?? 'no answer',
        entry.commit ?? '-',
        String(entry.abiVersion ?? '-'),
        entry.nodeVersion ?? '-',
        entry.kernelRelease ?? '-',
      ]),
    );
    return exitCode.ok;
  },
};
