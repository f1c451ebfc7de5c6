/** Calls back once after each burst of saves below some folders or files, never twice at a time. */
import { watch } from "node:fs";
import { join, relative } from "node:path";

/** Editors save in several steps. */
const settleMs = 50;

/** @param changed is given the path of the latest save. @returns never, short of a fault of the file system's */
export function watchFolders(paths: readonly string[], changed: (path: string) => Promise<void>): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  let latest: string | undefined;
  let running = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = async () => {
    if (running) return;
    running = true;
    for (let path = latest; path !== undefined; path = latest) {
      latest = undefined;
      await changed(relative(process.cwd(), path));
    }
    running = false;
  };
  for (const path of paths) {
    const watcher = watch(path, { recursive: true }, (_event, name) => {
      if (name !== null && !/\.(rego|ya?ml|json|sql)$/.test(name)) return;
      latest = name === null ? path : join(path, name);
      clearTimeout(timer);
      timer = setTimeout(() => void run().catch(reject), settleMs);
    });
    watcher.on("error", reject);
  }
  return promise;
}
