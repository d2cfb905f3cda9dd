// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Where the API server is, and how a process proves who it is. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { err, ok, type Result } from '@tandem/core/result';

/** Read for each connection and request, because certificates and tokens are replaced while we run. */
export interface KubeEndpoint {
  /** Such as https://10.96.0.1:443. */
  readonly url: string;
  /** Certificates in PEM that sign the server's; null: those that the system trusts. */
  readonly ca: () => Buffer | null;
  /** Certificate of the client, in PEM. */
  readonly certificate?: () => { readonly cert: Buffer; readonly key: Buffer };
  /** Value of the header `authorization`; null: none. */
  readonly authorization: () => string | null;
}

export const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Endpoint for a process in a pod. The error names the missing part and the fix. */
export function inClusterEndpoint(
  environment: Readonly<Record<string, string | undefined>>,
  directory: string = serviceAccountDirectory,
): Result<KubeEndpoint, string> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  if (host === undefined || host === '') {
    return err(
      'KUBERNETES_SERVICE_HOST is not set: this is no pod of Kubernetes; give --kubeconfig',
    );
  }
  const tokenPath = join(directory, 'token');
  const caPath = join(directory, 'ca.crt');
  try {
    readFileSync(tokenPath);
    readFileSync(caPath);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return err(`${reason}: give the pod its service account’s token, or give --kubeconfig`);
  }
  return ok({
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port ?? '443'}`,
    ca: () => readFileSync(caPath),
    authorization: () => `Bearer ${readFileSync(tokenPath, 'utf8').trim()}`,
  });
}
