"""Export and import of whole installations, in Argo CD's form."""
