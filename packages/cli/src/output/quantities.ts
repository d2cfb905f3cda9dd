// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Durations, shares and sizes for people. */

/** "0.4 ms", "35 ms", "1.2 s", "3 min 5 s", "2 h 10 min", "4 d 3 h". */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return '-';
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return pair(seconds, 60, 'min', 's');
  if (seconds < 86_400) return pair(Math.floor(seconds / 60), 60, 'h', 'min');
  return pair(Math.floor(seconds / 3600), 24, 'd', 'h');
}

function pair(value: number, base: number, large: string, small: string): string {
  const rest = value % base;
  const whole = `${Math.floor(value / base)} ${large}`;
  return rest === 0 ? whole : `${whole} ${rest} ${small}`;
}

/** "0 %", "<1 %", "42 %"; 100 % only when full. */
export function formatShare(part: number, whole: number): string {
  if (whole === 0) return '-';
  const percent = (part / whole) * 100;
  if (part === 0) return '0 %';
  if (percent < 1) return '<1 %';
  return `${part >= whole ? Math.round(percent) : Math.min(99, Math.round(percent))} %`;
}

/** "512 B", "4 KiB", "1.5 MiB". */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const isMega = bytes >= 1024 * 1024;
  const value = bytes / (isMega ? 1024 * 1024 : 1024);
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${isMega ? 'MiB' : 'KiB'}`;
}

/** "90", "90s", "5m", "2h" as seconds; null: it is none. */
export function parseSeconds(text: string): number | null {
  const match = /^(\d{1,9})(s|m|h|d)?$/.exec(text);
  if (match === null) return null;
  const factors: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };
  return Number(match[1]) * (factors[match[2] ?? 's'] ?? 1);
}
