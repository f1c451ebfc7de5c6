/** Installs the packages of a bare checkout, so that the commands of the README work from a fresh clone. */
import { existsSync } from "node:fs";

const marker = "node_modules/.bin/biome";
if (!existsSync(marker)) console.log("Installing packages (once) …");
const install = Bun.spawnSync([process.execPath, "install", "--frozen-lockfile"], {
  stdout: existsSync(marker) ? "ignore" : "inherit",
  stderr: existsSync(marker) ? "pipe" : "inherit",
});
if (install.exitCode !== 0) {
  process.stderr.write(install.stderr ?? new Uint8Array());
  process.exit(install.exitCode);
}
