"""A keyring in a file, for tests: a backend as the system's own are."""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class FileRing(KeyringBackend):
    priority = 5

    @property
    def _file(self):
        return Path(os.environ["TEST_KEYRING_FILE"])

    def _all(self):
        if self._file.name == "locked":
            raise RuntimeError("the keyring is locked")
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def get_password(self, service, username):
        return self._all().get(f"{service}/{username}")

    def set_password(self, service, username, password):
        self._file.write_text(json.dumps({**self._all(), f"{service}/{username}": password}))

    def delete_password(self, service, username):
        found = self._all()
        if found.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError(username)
        self._file.write_text(json.dumps(found))
