"""The web app for people: labelers write and judge, leads watch. Reaches models over HTTP only. No torch."""
