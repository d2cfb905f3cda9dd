// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A kubeconfig, for processes outside of pods. Reading one, with what it says of certificates, tokens and programs
 * that give tokens, is left to @kubernetes/client-node, which is loaded only here: it takes 50 MiB.
 */

import type { RequestOptions } from 'node:https';
import { isFields } from '@tandem/core/k8s/shape';
import { err, ok, type Result } from '@tandem/core/result';
import type { KubeEndpoint } from './endpoint.ts';
import { tokenRefreshMs } from './limits.ts';

/** Of the current context. */
export async function readKubeconfig(path: string): Promise<Result<KubeEndpoint, string>> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  let options: RequestOptions = {};
  let readMs = 0;
  const read = async (): Promise<void> => {
    const next: RequestOptions = {};
    await config.applyToHTTPSOptions(next);
    options = next;
    readMs = Date.now();
  };
  try {
    config.loadFromFile(path);
    const cluster = config.getCurrentCluster();
    if (cluster === null) return err(`${path} has no current context with a cluster`);
    if (cluster.skipTLSVerify === true) {
      return err(`${path}: insecure-skip-tls-verify is not supported: give certificate-authority`);
    }
    await read();
    return ok({
      url: cluster.server,
      ca: () => bufferOf(options.ca),
      ...(options.cert === undefined
        ? {}
        : {
            certificate: () => ({
              cert: bufferOf(options.cert) ?? Buffer.alloc(0),
              key: bufferOf(options.key) ?? Buffer.alloc(0),
            }),
          }),
      authorization: () => {
        // A token that a program gives is asked for anew in the background; the next request has it.
        if (Date.now() - readMs > tokenRefreshMs) void read().catch(() => undefined);
        return authorizationOf(options);
      },
    });
  } catch (error) {
    return err(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function authorizationOf({ headers, auth }: RequestOptions): string | null {
  const fields = isFields(headers) ? headers : {};
  const given = fields['Authorization'];
  if (typeof given === 'string') return given;
  return typeof auth === 'string' ? `Basic ${Buffer.from(auth).toString('base64')}` : null;
}

function bufferOf(value: unknown): Buffer | null {
  if (typeof value === 'string') return Buffer.from(value);
  return Buffer.isBuffer(value) ? value : null;
}
