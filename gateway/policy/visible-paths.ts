/**
 * Which parts of its input a policy can see, as its bundle's manifest lists them from `opa deps`. Whatever is unclear
 * widens to the parent: a wider path only makes the decision cache's key longer, never wrong.
 */
/** Fields of `now` that stay equal for a minute or more. */
const lastingTimes = ["weekday", "hour", "time"] as const;

export interface VisiblePaths {
  /** Paths under `identity`, `target` and `session`: fixed while a session lives. */
  readonly session: readonly (readonly string[])[];
  /** Paths under `command` that its shared analysis has. */
  readonly analysis: readonly (readonly string[])[];
  readonly digest: boolean;
  readonly novel: boolean;
  readonly params: boolean;
  /** Of the time only what stays equal for long enough to be worth a cache; the second does not. */
  readonly now: readonly (typeof lastingTimes)[number][];
}

const plainSegment = /^[A-Za-z_][A-Za-z0-9_]*$/;

function parsePath(value: unknown): string[] | undefined {
  const given: unknown[] | undefined =
    typeof value === "string" ? value.split(".") : Array.isArray(value) ? value : undefined;
  if (given === undefined) return undefined;
  const segments = given[0] === "input" ? given.slice(1) : given;
  const end = segments.findIndex((s) => typeof s !== "string" || !plainSegment.test(s) || s.startsWith("_"));
  return (end < 0 ? segments : segments.slice(0, end)).filter((s) => typeof s === "string");
}

/** Undefined where the paths are absent, unclear, or reach `input` or the time whole, or its second: then nothing may be cached. */
export function parseVisiblePaths(inputPaths: unknown, entrypoint: "session" | "command"): VisiblePaths | undefined {
  if (typeof inputPaths !== "object" || inputPaths === null) return undefined;
  const listed: unknown = Object.entries(inputPaths).find(([key]) => key === entrypoint)?.[1];
  if (!Array.isArray(listed) || listed.length === 0) return undefined;
  const session = new Map<string, readonly string[]>();
  const analysis = new Map<string, readonly string[]>();
  const now = new Set<(typeof lastingTimes)[number]>();
  let [digest, novel, params] = [false, false, false];
  for (const item of listed) {
    const path = parsePath(item);
    const [top, field] = path ?? [];
    if (path === undefined || top === undefined) return undefined;
    if (top === "now") {
      const lasting = lastingTimes.find((name) => name === field);
      if (lasting === undefined) return undefined;
      now.add(lasting);
      continue;
    }
    if (top !== "command") {
      session.set(path.join("."), path);
      continue;
    }
    digest ||= field === undefined || field === "digest";
    novel ||= field === undefined || field === "novel";
    params ||= field === undefined || field === "params";
    if (field !== "digest" && field !== "novel" && field !== "params") {
      analysis.set(path.join("."), path.slice(1));
    }
  }
  const parts = { session: [...session.values()], analysis: [...analysis.values()], now: [...now] };
  return { ...parts, digest, novel, params };
}
